//! Names that speak of secrets.

/// Words of which one makes a name that of a secret.
const SECRET_WORDS: &[&str] = &[
    "apikey",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "pwd",
    "secret",
    "secrets",
    "signature",
    "token",
    "tokens",
];

/// Last words that say that the value is about a secret but none itself.
const HARMLESS_ENDINGS: &[&str] =
    &["dir", "file", "helper", "home", "id", "mode", "name", "path", "sock", "socket", "type", "url"];

/// Whether a variable, header or field of that name holds a secret, as far as a name can tell.
#[must_use]
pub fn secret_like(name: &str) -> bool {
    let words = words(name);
    let harmless = words.last().is_some_and(|last| HARMLESS_ENDINGS.contains(&last.as_str()));
    if harmless || matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    words.iter().any(|word| SECRET_WORDS.contains(&word.as_str()))
        || words.windows(2).any(|pair| pair.concat() == "apikey")
}

/// The words of a name in upper, snake, kebab or camel case.
fn words(name: &str) -> Vec<String> {
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
    fn names_of_secrets_are_told_from_others() {
        for name in [
            "OPENAI_API_KEY",
            "apiKey",
            "x-api-key",
            "Authorization",
            "GITHUB_TOKEN",
            "dbPassword",
            "PGPASSWORD_SECRET",
            "GH_PAT",
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
        ] {
            assert!(!secret_like(name), "{name}");
        }
    }
}
