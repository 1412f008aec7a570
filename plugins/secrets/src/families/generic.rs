//! A telling name, an assignment, and a value that looks random. The patterns only find candidates; [`crate::judge`] decides
//! whether a value is a secret.

use crate::spec::{Spec, shape};

/// The text between a telling word and its value: the rest of the name, closing quotes and brackets, a type, the operator.
/// Instead of an operator, there can be the second half of a pair: `"name": "TOKEN", "value": "…"`.
const ASSIGNED: &str = concat!(
    r#"[\w.\-]{0,40}(?:\\{0,7}(?:["'`]|&(?:quot|apos|#34|#39);)|\]|\)|\*\*){0,3}(?:(?:\x1b|\\{1,3}(?:u001[bB]|x1[bB]|033|e))\[[0-9;]{0,12}m){0,2}"#,
    r#"(?:(?:[ \t]{0,3}:[ \t]{0,2}[&'A-Za-z_][\w&<>'\[\]. :|]{0,24}|[ \t]{1,3}string)?"#,
    r#"[ \t]{0,16}(?:=>|:=|\|=|\?=|={1,3}|:|,|>|\(|\||(?:is|was):)(?:<(?:value|string)>)?"#,
    r#"|</[A-Za-z]{1,12}><[A-Za-z]{1,12}>"#,
    r#"|,?[ \t]{0,4}(?:\\{1,3}n[ \t+\-]{0,24})?\\{0,7}(?:["']|&quot;)?[vV]alue\\{0,7}(?:["']|&quot;)?[ \t]{0,4}[:=]"#,
    // The name's object contains the value, or the line ends before it, in escaped text.
    r#"|[ \t]{0,4}[:=][ \t]{0,4}\{[ \t]{0,4}(?:\\{1,3}n[ \t+\-]{0,40})?\\{0,7}(?:["']|&quot;)?[vV]alue\\{0,7}(?:["']|&quot;)?[ \t]{0,4}[:=]"#,
    r#"|[ \t]{0,4}[:=][ \t]{0,4}(?:[|>][+\-]?)?[ \t]{0,2}\\{1,3}n[ \t+\-]{0,40})"#,
    r#"[ \t]{0,16}(?:\\{0,7}&(?:quot|apos|#34|#39);)?(?:(?:\x1b|\\{1,3}(?:u001[bB]|x1[bB]|033|e))\[[0-9;]{0,12}m){0,2}"#,
);
/// A value with one of four kinds of quotes, or without quotes: the groups 1 to 4.
const VALUE: &str = concat!(
    r#"(?:[bfruBFRU]{0,2}\\{0,7}"([^"\\\n\x00\x1b]{6,})|[bfruBFRU]{0,2}\\{0,7}'([^'\\\n\x00\x1b]{6,})|`([^`\\\n\x00\x1b]{6,})"#,
    r#"|([^\s"'`\\;,<>()\[\]{}|&:\x00\x1b][^\s"'`\\;,<>&\x00\x1b]{4,}[^\s"'`\\;,<>()\[\]{}.&:!?\x00\x1b]))"#,
);
/// A sentence that states a value, which must contain a digit. The punctuation at the end of the sentence is not part of the
/// value.
const IN_SENTENCE: &str = concat!(
    r#"["'`*]{0,3}(?:[ \t](?:for|of|to|on|in)(?:[ \t][\w.@\-'"`]+){1,5}?)?[ \t]{1,2}(?:is|was|(?:is |was )?(?:now|set to|changed to))"#,
    r#"[ \t]{1,2}(?:now[ \t])?[\\"'`*(]{0,4}([^\s"'`\\;,<>()\[\]{}|&]{0,}?[0-9][^\s"'`\\;,<>()\[\]{}|&]{2,}[^\s"'`\\;,<>()\[\]{}|&.:!?*])"#,
);
/// A value that follows blanks only. It must contain a digit; otherwise, ordinary text would match all the time.
const AFTER_BLANKS: &str =
    r#"[\w.\-]{0,40}[ \t]{1,24}\\{0,3}["'`]?([^\s"'`\\;,<>()\[\]{}|&]{0,}?[0-9][^\s"'`\\;,<>()\[\]{}|&]{5,})"#;

fn assigned(id: &'static str, what: &'static str, name: &str, keywords: &[&'static str]) -> Spec {
    shape(id, what, &format!("(?i:{name}){ASSIGNED}{VALUE}"), keywords).groups(&[1, 2, 3, 4]).up_to(768).judged()
}

pub(super) fn rules() -> Vec<Spec> {
    vec![
        assigned("generic-passphrase", "passphrase", "pass[_ -]?phrase|mnemonic|seed[_-]?phrase", &["pass", "mnemonic", "seed"]),
        assigned("generic-client-secret", "client secret", "(?:client|consumer|app|oauth)[_-]?secret", &["client", "consumer", "app", "oauth"]),
        assigned("generic-password", "password", "passw(?:or)?d|pwd|passcode|pass", &["pass", "pwd"]),
        shape("generic-secret-hex", "secret in hex", &format!(r#"(?i:secret|key|token|salt|hmac|signature|passw(?:or)?d|seed|cred){ASSIGNED}\\{{0,3}}["'`]?(?:0x)?([0-9a-fA-F]{{32,}})(?:[^\w]|$)"#), &["secret", "key", "token", "salt", "hmac", "signature", "pass", "seed", "cred"]).up_to(768).judged(),
        assigned("generic-api-key", "secret with a telling name", "secret|token|key|credential|cred|auth|cookie|bearer|webhook|dsn", &["secret", "token", "key", "cred", "auth", "cookie", "bearer", "webhook", "dsn"]),
        shape("generic-password", "password after a name", &format!("(?i:passw(?:or)?d|passcode|passphrase|pwd|pass)(?:{IN_SENTENCE}|{AFTER_BLANKS})"), &["pass", "pwd"]).groups(&[1, 2]).up_to(700).judged(),
        shape("generic-password", "password in SQL", r#"(?i:password|identified by)[ \t]{1,3}\\{0,7}'([^'\\\n]{4,})\\{0,7}'"#, &["password", "identified"]).up_to(300).judged(),
        shape("generic-api-key", "secret after a name", &format!("(?i:secret|token|key|credential)(?:s?{IN_SENTENCE}|{AFTER_BLANKS})"), &["secret", "token", "key", "credential"]).groups(&[1, 2]).up_to(700).judged(),
    ]
}
