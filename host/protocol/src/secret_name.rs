//! Recognizes names of secrets.

/// A name that contains one of these words is that of a secret.
const SECRET_WORDS: &[&str] = &[
    "apikey",
    "auth",
    "authorization",
    "cookie",
    "cred",
    "credential",
    "credentials",
    "creds",
    "dsn",
    "jwt",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "pw",
    "pwd",
    "secret",
    "secrets",
    "signature",
    "token",
    "tokens",
];

/// Suffixes of words that mark a secret in names without separators: `PGPASSWORD`, `SECRETKEY`.
const SECRET_ENDINGS: &[&str] =
    &["creds", "dsn", "jwt", "key", "pass", "passphrase", "passwd", "password", "pwd", "secret", "token"];

/// Words with these suffixes that do not mark a secret.
const HARMLESS_WORDS: &[&str] = &[
    "bypass",
    "compass",
    "donkey",
    "encompass",
    "foreignkey",
    "hockey",
    "hotkey",
    "jockey",
    "monkey",
    "oldpwd",
    "overpass",
    "primarykey",
    "pubkey",
    "publickey",
    "sortkey",
    "surpass",
    "trespass",
    "turkey",
    "underpass",
    "whiskey",
];

/// Last words of a name whose value is related to a secret, but not secret itself.
const HARMLESS_ENDINGS: &[&str] =
    &["dir", "file", "helper", "home", "id", "mode", "name", "path", "sock", "socket", "type", "url"];

/// Whether a variable, header or field with this name probably contains a secret.
#[must_use]
pub fn secret_like(name: &str) -> bool {
    let words = words(name);
    let harmless = words.last().is_some_and(|last| HARMLESS_ENDINGS.contains(&last.as_str()));
    if harmless || matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    words.iter().any(|word| is_secret_word(word.trim_end_matches(|c: char| c.is_ascii_digit())))
        || words.windows(2).any(|pair| pair.concat() == "apikey")
}

fn is_secret_word(word: &str) -> bool {
    SECRET_WORDS.contains(&word)
        || (!HARMLESS_WORDS.contains(&word) && SECRET_ENDINGS.iter().any(|ending| word.ends_with(ending)))
}

/// Splits a name in upper, snake, kebab or camel case into words, in lower case.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for character in name.chars() {
        if !character.is_alphanumeric() || (character.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        lower_before = character.is_lowercase() || character.is_ascii_digit();
        if let Some(word) = words.last_mut().filter(|_| character.is_alphanumeric()) {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_names_of_secrets() {
        for name in [
            "OPENAI_API_KEY",
            "apiKey",
            "x-api-key",
            "Authorization",
            "GITHUB_TOKEN",
            "dbPassword",
            "PGPASSWORD_SECRET",
            "GH_PAT",
            "PGPASSWORD",
            "SSHPASS",
            "MASTERPASSWORD",
            "SECRETKEY",
            "PRIVATEKEY",
            "ACCESSKEY",
            "STRIPE_APIKEY2",
            "SENTRY_DSN",
            "JWT",
            "SUPABASE_JWT",
            "DOCKER_CREDS",
            "CRED",
            "AUTHTOKEN",
            "clientsecret",
            "PASSWORD1",
        ] {
            assert!(secret_like(name), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "KEYBOARD",
            "SSH_AUTH_SOCK",
            "TOKEN_FILE",
            "AUTHOR",
            "MONKEY",
            "CODEX_HOME",
            "AWS_ACCESS_KEY_ID",
            "OLDPWD",
            "HOTKEY",
            "BYPASS",
            "COMPASS_HOME",
            "PUBLICKEY",
            "PASSWORD_FILE",
            "KEYSPACE",
            "TOKENIZER",
        ] {
            assert!(!secret_like(name), "{name}");
        }
    }
}
