//! Decides whether candidates that a pattern has found are secrets.

mod context;
mod encoded;
mod values;

use ostler_plugin::redactor::Candidate;

use context::{Class, Operator, ValueContext};
use values::{
    is_address, is_code, is_compressed, is_digest, is_digits, is_expression, is_number, is_pattern, is_placeholder,
    is_time, is_uuid, is_variable, is_version, without_number,
};

use crate::words::{entropy, is_wordy, randomness};

/// Example values of documentation, and ids that only look like secrets: exceptions from all rules. Each matches the whole
/// value, with so little text around the marker that no real key can contain it.
pub(crate) const EXAMPLES: &[&str] = &[
    r"^.{0,16}EXAMPLE(?:KEY)?$",
    // The secret key in the AWS documentation, in all variants.
    r"^[A-Za-z0-9/+]{30}EXAMPLEKEY$",
    r"^(?i:[a-z]{2,8}[-_])*[xX*.•]{5,}$",
    r"^.{0,16}(?:[xX]{8,}|\*{4,})(?:[-_.]?[xX*0]+)*.{0,8}$",
    r"^(?i:[a-z]{2,10}[-_.])*(?i:your|my|the|some|insert|paste|enter|replace|put)[-_ ][^0-9]{0,48}[0-9]{0,3}$",
    r"^.{0,16}(?i:change[_-]?me|place[_-]?holder).{0,16}$",
    r"^(?:toolu|msg|call|resp|req|chatcmpl|run|thread|asst|item|rs|fc|srvtoolu|batch|file|org|proj|user|acct|cus|sub|evt|pi|ch|in|price|prod)_[A-Za-z0-9]+$",
    r"^sk_test_(?:4eC39HqLyjWDarjtT1zdp7dc|BQokikJOvBiI2HlWgH4olfQ2)$",
    // Public keys of SSH.
    r"^AAAA(?:B3NzaC1|C3NzaC1|E2VjZHNh|GnNr|I(?:mVjZHNh|nNr))",
    r"^eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9\.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9l",
];

/// Whether a candidate is a secret.
pub(crate) fn is_secret(candidate: &Candidate) -> bool {
    let value = without_escape(&candidate.secret, &candidate.before);
    // Ethereum addresses are public.
    if is_placeholder(value) || is_address(value) {
        return false;
    }
    let value_context = ValueContext::parse(&candidate.before);
    let before = &candidate.before;
    match candidate.rule.as_str() {
        "generic-password"
        | "generic-passphrase"
        | "generic-client-secret"
        | "generic-secret-hex"
        | "generic-api-key" => {
            if is_sql(before) {
                password(value, &value_context)
            } else if let Some(name) = sentence_subject(before) {
                is_stated_secret(name, value)
            } else {
                assigned(&value_context, value, candidate)
            }
        }
        "http-basic-auth" => encoded::is_user_and_password(value),
        "docker-config-auth" => {
            encoded::is_user_and_password(value) || (!before.contains("\"auth\\\"") && is_random(value, 32))
        }
        "http-bearer-opaque" => bearer(value, before),
        // In `.npmrc`, a key can be a name without a telling word.
        "npm-legacy-auth-token" => value_context.name.starts_with('_') && !is_wordy(value) && !is_code(value),
        "session-cookie" => cookie(&value_context, value, before),
        "url-credentials" => url(&value_context, value, before),
        "curl-auth-user" => curl_user(value, before),
        "netrc-password" => netrc(value, before),
        "pgpass-password" => !is_code(value) && !is_wordy(value) && !before.contains("arn:"),
        "connection-string-password" => connection_string(value, candidate),
        "cli-password-flag" => flag(&value_context, value, before),
        "kubernetes-secret-yaml" => {
            encoded::is_readable(value)
                && value_context.before_name.trim_matches([' ', '\t', '+', '-', '|', '"']).is_empty()
        }
        "kubeconfig" => value_context.name.ends_with("client-key-data") || is_random(value, 40),
        "aws-secret-access-key" => is_random(value, 40) && !is_digest(value),
        "ethereum-private-key" => {
            // `alice.eth` is a name.
            !value_context.name.ends_with("eth")
                && !context::mentions(before, &["hash", "tx", "block", "root", "address", "topic", "transaction"])
        }
        _ => vendor(value, before),
    }
}

/// Removes the rest of an escaped character that began before the text.
fn without_escape<'v>(value: &'v str, before: &str) -> &'v str {
    let rest = value.strip_prefix('u').and_then(|rest| rest.split_at_checked(4));
    match rest {
        Some((hex, rest)) if before.ends_with('\\') && hex.bytes().all(|b| b.is_ascii_hexdigit()) => rest,
        _ => value,
    }
}

/// `WITH PASSWORD '`, `IDENTIFIED BY '`.
fn is_sql(before: &str) -> bool {
    let Some(opened) = before.strip_suffix('\'') else { return false };
    let words = opened.trim_end_matches('\\').trim_end().to_ascii_lowercase();
    words.ends_with("with password") || words.ends_with("identified by") || words.ends_with("set password")
}

/// `the password is: `, `the token for the builds was changed to `: the text before the verb.
fn sentence_subject(before: &str) -> Option<&str> {
    let words = before.trim_end_matches(['"', '\'', '`', '\\', ' ', '\t', '*', '(']);
    let colon = [" is:", " was:"].iter().find_map(|verb| words.strip_suffix(verb));
    // Without a colon, a blank follows the verb.
    let verb = || {
        let words = before.trim_end_matches(['"', '\'', '`', '\\', '*', '(']);
        let words = words.strip_suffix([' ', '\t'])?.trim_end();
        let words = words.strip_suffix(" now").unwrap_or(words);
        let words = [" set to", " changed to"].iter().find_map(|verb| words.strip_suffix(verb)).unwrap_or(words);
        Some([" is", " was"].iter().find_map(|verb| words.strip_suffix(verb)).unwrap_or(words))
            .filter(|left| left.len() < before.trim_end().len() && before.trim_end().len() - left.len() >= 3)
    };
    colon.or_else(verb)
}

/// Whether a sentence states a secret value for a name.
fn is_stated_secret(words: &str, value: &str) -> bool {
    let value = value.trim_end_matches(['.', ',', ';', ':', '!', '?', '*']);
    if is_code(value) || is_number(value) || is_time(value) || is_version(value) || !is_random(value, 8) {
        return false;
    }
    let lower = words.to_ascii_lowercase();
    let end = ["password", "passwd", "passcode", "passphrase", "pwd", "pass", "secret", "token", "key", "credential"]
        .iter()
        .filter_map(|word| lower.rfind(word).map(|at| at + word.len()))
        .max();
    // The qualifier is a separate word: `the sort key`.
    let Some(name) = end.and_then(|end| words.get(..end)) else { return false };
    let start = name.rmatch_indices([' ', '\t']).nth(1).map_or(0, |(at, _)| at + 1);
    let name = name.get(start..).unwrap_or(name).replace(['"', '\'', '`', '*'], "").replace([' ', '\t'], "_");
    let value_context = ValueContext {
        name: &name,
        before_name: "",
        operator: Operator::Assign,
        quoted: true,
        broken: false,
        is_number: false,
        name_quoted: false,
    };
    let digit = value.bytes().any(|b| b.is_ascii_digit());
    let letter = value.bytes().any(|b| b.is_ascii_alphabetic());
    match value_context.class() {
        Some(Class::Key | Class::Weak) => {
            digit
                && letter
                && is_random(value, 12)
                && !is_uuid(value)
                && (!is_digest(value) || value_context.is_credential())
        }
        Some(_) => digit && letter,
        None => false,
    }
}

fn is_random(value: &str, least: usize) -> bool {
    value.len() >= least
        && !is_wordy(value)
        && randomness(value) >= 0.25
        && entropy(value) >= if value.len() < 24 { 2.5 } else { 2.9 }
}

/// A value of the right form next to the name of a provider.
fn vendor(value: &str, before: &str) -> bool {
    let explained = is_digest(value) && context::mentions(before, context::DIGESTS);
    !(is_wordy(value) || explained || context::ends_like_a_path(before)) && randomness(value) >= 0.15
}

/// A value with a telling name.
fn assigned(value_context: &ValueContext<'_>, value: &str, candidate: &Candidate) -> bool {
    let Some(class) = value_context.class() else { return false };
    // The password of a URL, which has its own rules.
    let in_url = value_context.before_name.ends_with("://");
    // The name of a resource or of a type of resources: its last part is a path of names.
    if value_context.before_name.ends_with(':')
        && (value_context.before_name.contains("arn:") || value_context.before_name.contains("AWS::"))
    {
        return false;
    }
    if value_context.is_declared() || is_time(value) || is_version(value) || is_pattern(value) {
        return false;
    }
    // `NAME=…` in a shell or in a file of variables is not code. Other code without blanks is minified.
    let variable = value_context.names_variable() && candidate.before.ends_with('=');
    let compact = !variable && candidate.before.ends_with([':', '=']);
    let code = |value| !variable && (is_expression(value) || (compact && is_compressed(value)));
    if !value_context.quoted && (is_number(value) || code(value) || is_type(value_context, value, &candidate.after)) {
        return false;
    }
    // A constant that contains its own name: `X_PASSWORD = "X_PASSWORD"`.
    if is_same_name(value_context.name, value) {
        return false;
    }
    // `pub const X_PASSWORD: u32 = 100004`, `const X_PASSWORD = 100004;`
    let constant = !value_context.quoted
        && candidate.after.starts_with(';')
        && value_context.before_name.trim_end().ends_with("const");
    if is_digits(value) && (value_context.is_number || constant) {
        return false;
    }
    // If the line was broken before the value, it contains nothing else.
    if value_context.broken
        && !value_context.quoted
        && !candidate.after.trim_start_matches(',').is_empty()
        && !candidate.after.trim_start_matches(',').starts_with(['\\', '"', '\''])
    {
        return false;
    }
    // The rule does not include the prefix of such an address.
    if value.len() == 40 && candidate.before.ends_with("0x") && is_digest(value) {
        return false;
    }
    if in_url
        || value_context.is_reference()
        || (!value_context.quoted && (is_code(value) || candidate.after.starts_with(['(', '['])))
    {
        return false;
    }
    let value = value.trim_end_matches(['.', ',', ';', ':', '!', '?']);
    if value.contains(char::is_whitespace) && class != Class::Passphrase {
        return false;
    }
    let blank = value_context.operator == Operator::Blank;
    if blank && !value_context.names_variable() && !value_context.is_flag() && !is_random(value, 20) {
        return false;
    }
    if value_context.operator == Operator::Call && !value_context.quoted {
        return false;
    }
    // In a list of statements or arguments, a value without quotes is the next element.
    if value_context.operator == Operator::Comma && !value_context.quoted && value.contains(['=', '(']) {
        return false;
    }
    // If the name has no quotes either, it is a variable: `hash(password, salt)`.
    if value_context.operator == Operator::Comma
        && !value_context.name_quoted
        && !value_context.names_variable()
        && !is_random(value, 16)
    {
        return false;
    }
    if value_context.operator == Operator::Comma
        && !value_context.quoted
        && !value_context.names_variable()
        && !is_random(value, 16)
    {
        return false;
    }
    let id = without_number(value);
    match class {
        Class::Passphrase => passphrase(value, value_context.quoted) || password(value, value_context),
        Class::Password => password(value, value_context),
        Class::Secret => password(value, value_context) && value.len() >= 8 && randomness(value) >= 0.2 || is_uuid(id),
        Class::Token | Class::Key if value_context.is_flag() => {
            is_random(value, 10) && (!is_digest(value) || value_context.is_credential())
        }
        Class::Token => is_random(value, 16) && (!is_uuid(id) || value_context.is_credential()),
        Class::Key => {
            is_random(value, 16)
                && (!is_uuid(id) || value_context.is_credential())
                && (!is_digest(value) || value_context.is_credential())
                && !(is_digest(value) && context::mentions(value_context.before_name, context::DIGESTS))
        }
        Class::Weak => {
            // `Linux-node-<digest>`: a cache's key.
            let last = value.rsplit(['-', ':', '/', '.']).next().unwrap_or(value);
            is_random(value, 20) && !is_uuid(id) && !is_digest(value) && !is_digest(last)
        }
    }
}

/// Whether name and value are the same name in different cases.
fn is_same_name(name: &str, value: &str) -> bool {
    let bare = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    value.len() >= 12 && bare(name) == bare(value)
}

/// Whether the value is a type: `NAME: Type = …`, or `field: Type,` in a declaration.
fn is_type(value_context: &ValueContext<'_>, value: &str, after: &str) -> bool {
    let name =
        !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '<' | '>'));
    let after = after.trim_start();
    let declared = value_context.before_name.trim_end();
    name && value_context.operator == Operator::Assign
        && (after.starts_with("= ")
            || after.starts_with("+ ")
            || declared.ends_with("pub")
            || declared.ends_with(" pub(crate)"))
        && value.chars().next().is_some_and(|c| c.is_ascii_uppercase() || c == '_')
}

/// Whether it consists of several words, as chosen by people or by generators such as diceware.
fn passphrase(value: &str, quoted: bool) -> bool {
    const PROSE: [&str; 18] = [
        "the", "for", "is", "to", "your", "enter", "a", "an", "of", "be", "must", "and", "or", "not", "this", "with",
        "in", "no",
    ];
    let separators: &[char] = if quoted { &['-', ' ', '.', '_', '+'] } else { &['-', '.', '+'] };
    let parts: Vec<&str> = value.split(separators).collect();
    let plain = |part: &&str| !part.is_empty() && part.chars().all(char::is_alphanumeric);
    parts.len() >= 3
        && parts.iter().all(plain)
        // The name of a passphrase.
        && !parts.last().is_some_and(|last| context::contains_any(last, &["passphrase", "password", "phrase"]))
        && !parts.iter().any(|part| PROSE.contains(&part.to_ascii_lowercase().as_str()))
        && (value.contains(['-', ' ']) || value.chars().any(|c| c.is_ascii_digit()))
        && (parts.len() >= 4 || value.chars().any(|c| c.is_ascii_digit() || c.is_uppercase()) || !quoted)
}

fn password(value: &str, value_context: &ValueContext<'_>) -> bool {
    if value.len() < 6 || value.contains(char::is_whitespace) || is_code(value) {
        return false;
    }
    if is_digits(value) {
        return value_context.is_exactly_password() && value_context.operator != Operator::Blank;
    }
    let symbols = value.chars().filter(|c| "!@#$%^&*~?+=|§€£".contains(*c)).count();
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let letters = value.chars().filter(char::is_ascii_alphabetic).count();
    if is_wordy(value) {
        // Words alone are names and types. Words with a number, as in `harbor-saffron-610`, are typical passwords.
        return (digits >= 1
            && letters >= 4
            && (value_context.quoted || value_context.names_variable())
            && !value.contains(['.', '/', '_', ':']))
            || (digits >= 2 && value.split('-').count() >= 3)
            || (symbols >= 1 && digits >= 1);
    }
    digits + symbols >= 1 || randomness(value) >= 0.2
}

fn bearer(value: &str, before: &str) -> bool {
    let value = value.trim_end_matches(['.', ',', ':', '|', '/']);
    if value.len() < 8 || is_code(value) || is_wordy(value) {
        return false;
    }
    let header = context::mentions(before, &["authorization", "x-", "-token", "-key", "header"]);
    if header { value.len() >= 12 && randomness(value) >= 0.1 } else { is_random(value, 16) }
}

fn cookie(value_context: &ValueContext<'_>, value: &str, before: &str) -> bool {
    const ATTRIBUTES: [&str; 10] =
        ["path", "domain", "expires", "max-age", "samesite", "priority", "version", "comment", "_ga", "_gid"];
    let name = value_context.name.to_ascii_lowercase();
    if ATTRIBUTES.iter().any(|attribute| name == *attribute) || name.starts_with("_ga") || is_code(value) {
        return false;
    }
    let sessions = [
        "phpsessid",
        "jsessionid",
        "asp.net_sessionid",
        "connect.sid",
        "laravel_session",
        "remember_token",
        "next-auth.session-token",
    ];
    if !context::mentions(before, &["cookie"]) && !sessions.contains(&name.as_str()) && !name.starts_with("__") {
        return false;
    }
    if !value_context.quoted && before.ends_with("= ") && is_expression(value) {
        return false;
    }
    let telling = ["sess", "sid", "auth", "token", "csrf", "jwt", "remember", "login", "sso"]
        .iter()
        .any(|word| name.contains(word));
    let digit = value.bytes().any(|b| b.is_ascii_digit());
    if telling {
        value.len() >= 12 && !is_wordy(value) && (digit || is_random(value, 12))
    } else {
        is_random(value, 20) && !is_uuid(value)
    }
}

fn url(value_context: &ValueContext<'_>, value: &str, before: &str) -> bool {
    if let Some(after_scheme) = before.rfind("://").and_then(|at| before.get(at + 3..))
        && !after_scheme.contains(['/', '?', '#'])
    {
        // The public key of a node.
        if before.ends_with("enode://") {
            return false;
        }
        let Some(user) = after_scheme
            .strip_suffix(':')
            .or_else(|| after_scheme.strip_suffix("%3A"))
            .or_else(|| after_scheme.strip_suffix("%3a"))
        else {
            return is_random(value, 16);
        };
        if is_digits(value) && value.len() <= 5 && user == "localhost" {
            return false;
        }
        let port = value.split('/').next().unwrap_or_default();
        let is_port =
            !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && value.len() > port.len();
        return value.len() >= 3 && !is_port && !value.eq_ignore_ascii_case(user) && !values::is_common_password(value);
    }
    let opener = value_context.before_name;
    let in_query = opener.ends_with(['?', '&', ';', '#'])
        || ["%3f", "%3F", "%26", "\\u0026", "amp;"].iter().any(|end| opener.ends_with(end));
    if !in_query || is_code(value) {
        return false;
    }
    match value_context.name.to_ascii_lowercase().as_str() {
        "password" | "passwd" | "pwd" | "secret" | "client_secret" => value.len() >= 6 && !is_wordy(value),
        "access_token" | "refresh_token" | "id_token" | "auth_token" | "private_token" | "job_token"
        | "session_token" | "api_key" | "apikey" => value.len() >= 12 && !is_wordy(value),
        "key" => is_random(value, 20) && !is_digest(value),
        _ => is_random(value, 16) && !is_uuid(value),
    }
}

fn curl_user(value: &str, before: &str) -> bool {
    const SHORT: [&str; 12] = ["-u", "-su", "-ssu", "-ku", "-sku", "-lu", "-slu", "-fsslu", "-fu", "-iu", "-vu", "-xu"];
    let fetches = context::mentions(before, &["curl", "wget", "http"]);
    // The flag is a separate word, or the beginning of the word that ends with the user's name.
    let parts = |c: char| c.is_whitespace() || "\"'\\,=[(`".contains(c);
    let mut words = before.rsplit(parts).filter(|word| !word.is_empty());
    let flagged = words.by_ref().take(2).enumerate().any(|(at, word)| {
        let flag = word.trim_end_matches(':').to_ascii_lowercase();
        let attached =
            at == 0 && fetches && SHORT.iter().any(|short| flag.starts_with(short)) && !flag.starts_with("--");
        flag == "--user" || flag == "--proxy-user" || SHORT.contains(&flag.as_str()) || attached
    });
    if !flagged || value.starts_with("//") || is_digits(value) || is_code(value) || values::is_common_password(value) {
        return false;
    }
    if fetches { !value.trim().is_empty() } else { value.len() >= 8 && !is_wordy(value) }
}

/// `machine HOST login USER password VALUE`, on one line or on several.
fn netrc(value: &str, before: &str) -> bool {
    let head = before.trim_end().strip_suffix("password").unwrap_or(before);
    let login = head.rfind("login ").or_else(|| head.rfind("account "));
    let head = login.and_then(|at| head.get(..at)).unwrap_or(head);
    let mut words = head.split_whitespace().rev();
    let (host, machine) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let named = host.contains(['.', ':']) || host.contains("localhost") || host.bytes().any(|b| b.is_ascii_digit());
    if machine.ends_with("machine") && named && login.is_some() {
        return true;
    }
    if is_code(value) || is_wordy(value) || value.len() < 6 {
        return false;
    }
    // A timestamp at the beginning of a log line contains no letters other than these.
    let bare = !head.chars().any(|c| c.is_alphabetic() && !matches!(c, 'T' | 'Z'));
    bare || head.ends_with("\\n") || machine.ends_with("machine") || host.ends_with("default") || is_random(value, 8)
}

fn connection_string(value: &str, candidate: &Candidate) -> bool {
    const PARTS: &[&str] = &[
        "server=",
        "data source=",
        "user id=",
        "uid=",
        "host=",
        "dbname=",
        "user=",
        "database=",
        "initial catalog=",
        "port=",
        "username=",
        "endpoint=",
        "address=",
        "driver=",
        "dsn=",
    ];
    if context::mentions(&candidate.before, &["jdbc:oracle:", "sqlplus", "sqlldr", "expdp", "impdp"]) {
        let value = value.trim_matches(['"', '\\']);
        let user = candidate.before.trim_end_matches(['"', '\\']).strip_suffix('/').unwrap_or_default();
        return !is_placeholder(value) && !is_variable(value) && !user.ends_with(value) && value.len() >= 3;
    }
    let near = |text: &str| context::contains_any(text, PARTS);
    (near(&candidate.before) || near(&candidate.after))
        && !is_code(value)
        && !values::is_common_password(value)
        && value.len() >= 4
        && !(candidate.before.ends_with('=')
            && (is_expression(value) || value.starts_with('=') || value.contains("),")))
}

fn flag(value_context: &ValueContext<'_>, value: &str, before: &str) -> bool {
    if is_code(value) || value.starts_with('-') || is_placeholder(value) {
        return false;
    }
    if !value_context.is_flag() || value_context.name.len() <= 1 {
        // A short flag after the name of a program that uses it for a password.
        return value.len() >= 4 && !is_wordy(value) && !is_digits(value) && !before.trim_end().ends_with("--");
    }
    match value_context.class() {
        Some(Class::Password | Class::Passphrase) => {
            !is_wordy(value)
                || (value.chars().any(|c| c.is_ascii_digit()) && value.len() >= 8)
                || passphrase(value, value_context.quoted)
        }
        Some(Class::Secret) => value.len() >= 6 && !is_wordy(value),
        Some(Class::Token | Class::Key) => value.len() >= 12 && !is_wordy(value) && randomness(value) >= 0.15,
        Some(Class::Weak) => is_random(value, 16),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rule: &str, before: &str, secret: &str, after: &str) -> bool {
        is_secret(&Candidate { rule: rule.into(), secret: secret.into(), before: before.into(), after: after.into() })
    }

    #[test]
    fn values_decide_in_addition_to_names() {
        for (before, value, after) in [
            ("password: ", "String", ""),
            ("password = ", "os.environ", "[\"X\"]"),
            ("let token = ", "lexer.next_token", "()?;"),
            ("password: str = ", "Field", "(min_length=12)"),
            ("api_key=", "settings.API_KEY", ")"),
            ("\"token\": \"", "string", "\""),
            ("secret = \"", "my-secret-name", "\""),
            ("SECRET_KEY_FILE=", "/run/secrets/key1", ""),
            ("\"input_tokens\": ", "1234567", ","),
            ("cacheKey: \"", "node-linux-x64-9f86d081884c7d659a2feaa0c55ad015", "\""),
            ("primary_key=\"", "5ac717f7bf0387a3153397df6dae75db5c12ea26", "\""),
            ("idempotency_key: \"", "6bfb0826-5d56-4568-a766-4beb22f4ba40", "\""),
            ("password: \"", "must be at least 8 characters", "\""),
            ("next_page_token: \"", "CAEaBlBUOkNBUQx7q2m9k4", "\""),
        ] {
            assert!(!judge("generic-api-key", before, value, after), "{before}{value}{after}");
        }
        for (before, value, after) in [
            ("MYSQL_ROOT_PASSWORD=", "Cbgrr2664$pikfCYY", ""),
            ("{\\\"x-api-key\\\": \\\"", "IRkH7GhPsnx9fNlM0SpsHbOocQPpsgQ3V5D", "\\\""),
            ("app.secret_key = '", "8b25a1cbf040dfa0f3d273140a8a96d99b341a0bf9a9fcd5d18ef85efc6b4f22", "'"),
            ("passphrase=", "harbor-saffron-walnut-610", ""),
            ("api_key: \"", "6bfb0826-5d56-4568-a766-4beb22f4ba40", "\""),
            ("const dbPassword: string = \"", "hunter2hunter2", "\""),
        ] {
            assert!(judge("generic-api-key", before, value, after), "{before}{value}{after}");
        }
    }

    #[test]
    fn urls_with_ports_or_default_passwords_are_not_credentials() {
        assert!(judge("url-credentials", "redis://:", "qbbGz6qFk52JdX", "@redis"));
        assert!(judge("url-credentials", "https://mirror:", "DHk8U%21qexqDS", "@pkg"));
        assert!(!judge("url-credentials", "http://localhost:", "5173/node_modules/vue", "@3.js"));
        assert!(!judge("url-credentials", "postgres://postgres:", "postgres", "@localhost"));
        assert!(!judge("url-credentials", "https://user:", "password", "@host"));
    }
}
