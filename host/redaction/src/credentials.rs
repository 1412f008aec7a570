//! Known values that are ordinary words, masked only where they are used as a credential: after a name that suggests a
//! secret, or as the password in a URL, of a login, of a flag.
//!
//! The text before a value decides, within its line and a limited distance; the text after it, only up to the next
//! blank. A stream has both when it releases a word, so that the result does not depend on cuts.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use memchr::memrchr;
use percent_encoding::percent_decode;

use super::masks::{COMPONENT, MAX_FAST, json_escape, percent};
use super::matcher::CONTEXT;
use super::syntax::is_breaker;
use super::text::{PLACEHOLDER, invisible, kebab};
use super::views::{after_invisible, is_base64, padding};
use ostler_protocol::{secret_like, words};

/// Bytes before a value that are read. A stream keeps more of its line than this.
const REACH: usize = 192;
const _: () = assert!(REACH <= CONTEXT);
/// Longest user name before a password.
const MAX_USER: usize = 64;
/// Most of `user:password` in base64 that is decoded.
const MAX_PAIR: usize = 256;

/// Values that are masked where they are used as a credential.
#[derive(Default)]
pub(super) struct Credentials {
    finder: Option<AhoCorasick>,
    forms: Vec<Form>,
    /// The texts of the forms, until they are compiled, with the index of each.
    texts: HashMap<Vec<u8>, usize>,
}

struct Form {
    /// Indexes of the names of the value.
    names: Vec<u32>,
    kind: Kind,
}

impl Form {
    fn first_name(&self) -> u32 {
        self.names.first().copied().unwrap_or(0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The value, also escaped as in a string or URL.
    Plain,
    /// The value in base64, as in Kubernetes.
    Encoded,
    /// The end of `user:value` in base64, as in HTTP and Docker.
    Pair,
}

/// How much of the text before a value is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The relevant part of the line.
    Line,
    /// Only the text up to the previous blank.
    Word,
}

impl Credentials {
    /// Adds a value, which has no blanks and is ASCII, and the index of its name.
    pub(super) fn add(&mut self, value: &str, name: u32) {
        let mut form = |text: String, kind| {
            let next = self.forms.len();
            let at = *self.texts.entry(text.into_bytes()).or_insert(next);
            match self.forms.get_mut(at) {
                Some(form) if !form.names.contains(&name) => form.names.push(name),
                Some(_) => {}
                None => self.forms.push(Form { names: vec![name], kind }),
            }
        };
        form(value.to_owned(), Kind::Plain);
        form(json_escape(value), Kind::Plain);
        form(percent(value, COMPONENT), Kind::Plain);
        // Also with the newline of `echo`.
        for ending in ["", "\n"] {
            let value = format!("{value}{ending}");
            form(STANDARD_NO_PAD.encode(&value), Kind::Encoded);
            for user in 0..3usize {
                // The characters without bits of the user name.
                let pair = STANDARD_NO_PAD.encode(format!("{}:{value}", "u".repeat(user)));
                form(pair.get((user * 8).div_ceil(6)..).unwrap_or_default().to_owned(), Kind::Pair);
            }
        }
    }

    /// Compiles the values that were added.
    pub(super) fn build(&mut self) {
        if !self.texts.is_empty() {
            let builder = &mut AhoCorasick::builder();
            let fast = self.texts.len() <= MAX_FAST;
            let kind = if fast { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
            let builder = builder.match_kind(MatchKind::Standard).kind(Some(kind));
            let mut texts: Vec<(Vec<u8>, usize)> = std::mem::take(&mut self.texts).into_iter().collect();
            texts.sort_unstable_by_key(|(_, at)| *at);
            self.finder = builder.build(texts.into_iter().map(|(text, _)| text)).ok();
            debug_assert!(self.finder.is_some());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Finds every value from `start` on that is used as a credential, with the index of its name. `names` gives the
    /// name for the placeholder.
    pub(super) fn each<'n>(
        &self,
        text: &[u8],
        start: usize,
        known: Before,
        names: impl Fn(u32) -> &'n str,
        mut find: impl FnMut(Range<usize>, u32),
    ) {
        let Some(finder) = &self.finder else { return };
        for hit in finder.find_overlapping_iter(text.get(start..).unwrap_or_default()) {
            let Some(form) = self.forms.get(hit.pattern().as_usize()) else { continue };
            let mut range = start + hit.start()..start + hit.end();
            if form.kind != Kind::Plain {
                range.end += padding(text, range.end);
            }
            let after = text.get(after_colours(text, range.end)..).unwrap_or_default();
            if !ends_value(after) {
                continue;
            }
            if form.kind == Kind::Pair {
                if let Some(pair) = pair(text, range.clone()) {
                    find(pair.start.max(start)..pair.end, form.first_name());
                }
                continue;
            }
            // A quick check: most words are part of a longer one, or have nothing before them that makes them a
            // credential.
            let preceding = text.get(..range.start).unwrap_or_default();
            if !preceding.last().is_some_and(|last| may_open(*last)) || is_in_prose(preceding) {
                continue;
            }
            let own: Vec<&str> = form.names.iter().map(|name| names(*name)).collect();
            if is_credential(&before(text, range.start, known), after, &own) {
                find(range, form.first_name());
            }
        }
    }
}

/// Where the text continues after invisible sequences at `at` without blanks: a stream may end at a blank.
fn after_colours(text: &[u8], mut at: usize) -> usize {
    loop {
        let end = at + invisible(text, at);
        if end == at || text.get(at..end).is_none_or(|hidden| hidden.iter().any(u8::is_ascii_whitespace)) {
            return at;
        }
        at = end;
    }
}

/// The text before a value, unescaped and without colours.
fn before(text: &[u8], at: usize, known: Before) -> String {
    let far = text.get(..at).unwrap_or_default();
    let far = far.get(far.len().saturating_sub(REACH)..).unwrap_or_default();
    let edge = match known {
        Before::Line => memrchr(b'\n', far),
        Before::Word => far.iter().rposition(|byte| is_breaker(*byte)),
    };
    let near = far.get(edge.map_or(0, |edge| edge + 1)..).unwrap_or_default();
    let mut seen = Vec::with_capacity(near.len());
    let mut at = 0;
    while let Some(&byte) = near.get(at) {
        let visible = after_invisible(near, at);
        if visible > at {
            at = visible;
            continue;
        }
        let rest = near.get(at..).unwrap_or_default();
        let (shown, length) = if byte == b'\\' { unescape(rest) } else { (Some(byte), 1) };
        seen.extend(shown);
        at += length;
    }
    let decoded: Vec<u8> = percent_decode(&seen).collect();
    let decoded = String::from_utf8_lossy(&decoded);
    if decoded.contains('&') {
        return decoded.replace("&quot;", "\"").replace("&apos;", "'").replace("&#34;", "\"").replace("&#39;", "'");
    }
    decoded.into_owned()
}

/// A quick check: whether only a plain word and blanks precede a value, as in most sentences. There it is not a
/// credential; all other cases are examined in full.
fn is_in_prose(before: &[u8]) -> bool {
    const ANNOUNCING: [&[u8]; 6] = [b"bearer", b"is", b"masterauth", b"password", b"requirepass", b"was"];
    let near = before.get(before.len().saturating_sub(REACH)..).unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let rest = near.get(..near.len() - near.iter().rev().take_while(|byte| blank(byte)).count()).unwrap_or_default();
    let letters = rest.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (earlier, word) = rest.split_at_checked(rest.len() - letters).unwrap_or_default();
    rest.len() < near.len()
        && !word.is_empty()
        && earlier.last().is_some_and(blank)
        && !ANNOUNCING.iter().any(|announcing| word.eq_ignore_ascii_case(announcing))
}

/// The character of an escape, and its length. A colour has no character.
fn unescape(text: &[u8]) -> (Option<u8>, usize) {
    let escape =
        ["\\u001b", "\\u001B", "\\x1b", "\\x1B", "\\033", "\\e"].iter().find(|e| text.starts_with(e.as_bytes()));
    if let Some(sequence) = escape.and_then(|escape| text.get(escape.len()..)?.strip_prefix(b"[")) {
        let parameters = sequence.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';')).count();
        return (None, text.len() - sequence.len() + (parameters + 1).min(sequence.len()));
    }
    match text.get(1) {
        Some(b'n' | b'r') => (Some(b'\n'), 2),
        Some(b't') => (Some(b'\t'), 2),
        Some(b'u') => {
            let code = text.get(2..6).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            code.map_or((None, 1), |code| (Some(code), 6))
        }
        // An escaped quote is a quote; backslashes before it are ignored.
        _ => (None, 1),
    }
}

/// Whether a credential can start after this byte: an operator, a quote, a bracket, a blank, the end of an escape or of
/// a colour, the `p` of `-p`.
fn may_open(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || b"pmKntr".contains(&byte) || !(byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a value can end before this text, so that it is not part of a longer word.
fn ends_value(after: &[u8]) -> bool {
    match after {
        [] => true,
        // The end of a sentence, or of a part of a message.
        [b'.' | b':' | b'!' | b'?', rest @ ..] => {
            rest.first().is_none_or(|next| next.is_ascii_whitespace() || matches!(next, b'"' | b'\'' | b'\\' | b'`'))
        }
        [first, ..] => first.is_ascii_whitespace() || b"\"'`\\,;&<>)]}|@%*".contains(first),
    }
}

/// The base64 of `user:value` that ends with `range`.
fn pair(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let rest = text.get(..range.start)?;
    let back = rest.iter().rev().take(MAX_PAIR).take_while(|byte| is_base64(**byte)).count();
    let range = range.start - back..range.end;
    let encoded = text.get(range.clone())?;
    let length = encoded.len() - encoded.iter().rev().take_while(|byte| **byte == b'=').count();
    let mut bytes = encoded.get(..length)?.to_vec();
    bytes.resize(length.next_multiple_of(4), b'=');
    let decoded = String::from_utf8(STANDARD.decode(bytes).ok()?).ok()?;
    let (user, _) = decoded.split_once(':')?;
    (user.len() <= MAX_USER && user.bytes().all(|byte| byte.is_ascii_graphic())).then_some(range)
}

/// Whether a value between these texts is used as a credential. `own` are the names of the value itself.
fn is_credential(before: &str, after: &[u8], own: &[&str]) -> bool {
    in_url(before, after)
        || of_login(before)
        || short_flag(before)
        || in_password_file(before, after)
        || named(before, own)
}

/// `scheme://user:VALUE@host`.
fn in_url(before: &str, after: &[u8]) -> bool {
    let at_sign = [&b"@"[..], b"%40", b"\\u0040"].iter().any(|sign| after.starts_with(sign));
    at_sign
        && before.strip_suffix(':').is_some_and(|rest| {
            let user = rest.rfind(['/', '@', ' ', '"', '\'']).map_or(0, |at| at + 1);
            rest.get(..user).is_some_and(|rest| rest.ends_with("//"))
        })
}

/// `-u user:VALUE`, `--user=user:VALUE`.
fn of_login(before: &str) -> bool {
    let Some(rest) = before.strip_suffix(':') else { return false };
    let user = rest.rfind([' ', '"', '\'', '=', ',']).map_or(0, |at| at + 1);
    let (Some(flag), Some(user)) = (rest.get(..user), rest.get(user..)) else { return false };
    let flag = flag.trim_end_matches([' ', '"', '\'', '=', ',']);
    (!user.is_empty() && ["-u", "-U", "--user", "--proxy-user"].iter().any(|name| flag.ends_with(name)))
        || (user.len() > 2 && user.starts_with("-u"))
}

/// `-pVALUE`, `-p VALUE` and similar flags of programs that take a password there.
fn short_flag(before: &str) -> bool {
    const FLAGS: &[(&str, &[&str])] = &[
        ("-p", &["mysql", "mariadb", "sshpass", "login", "mongo", "rabbitmqadmin", "unzip", "7z"]),
        ("-a", &["redis-cli"]),
        ("-w", &["ldap", "influx"]),
        ("-P", &["sqlcmd", "bcp", "zip"]),
    ];
    let opened = before.trim_end_matches(['"', '\'']);
    let opened = opened.trim_end_matches([' ', ',', '"', '\'']);
    FLAGS.iter().any(|(flag, programs)| {
        opened.strip_suffix(flag).is_some_and(|rest| {
            rest.ends_with([' ', '"', '\'', '\t']) && programs.iter().any(|program| rest.contains(program))
        })
    })
}

/// `host:port:database:user:VALUE`, a line of `.pgpass`.
fn in_password_file(before: &str, after: &[u8]) -> bool {
    let before = before.rsplit('\n').next().unwrap_or_default();
    let mut fields = before.split(':');
    let (Some(host), Some(port)) = (fields.next(), fields.next()) else { return false };
    after.first().is_none_or(|next| matches!(next, b'\n' | b'\r' | b'\\'))
        && !host.is_empty()
        && !before.contains([' ', '/', '"'])
        && (port == "*" || (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())))
        && fields.count() == 3
        && before.ends_with(':')
}

/// Whether the value follows a name that suggests a secret.
fn named(before: &str, own: &[&str]) -> bool {
    let opened = before.trim_end_matches(['"', '\'', '`']);
    let quoted = opened.len() < before.len();
    // `b"…"` and similar prefixes.
    let opened = [" b", "=b", "(b", " f", "=f", " r", "=r"]
        .iter()
        .find(|prefix| quoted && opened.ends_with(*prefix))
        .map_or(opened, |_| opened.get(..opened.len() - 1).unwrap_or(opened));
    let rest = opened.trim_end_matches([' ', '\t']);
    if ends_with_word(rest, "bearer") && rest.len() < opened.len() {
        return true;
    }
    let speaks = |name: &str| speaks_of_secret(name, own);
    for operator in [":-", ":=", "?=", "|=", "=>", "===", "!==", "==", "!=", "->", "\u{2192}", "=", ":", "|"] {
        if let Some(left) = rest.strip_suffix(operator) {
            return assigned(left, operator.ends_with('='), &speaks);
        }
    }
    for word in [" is", " was"] {
        if let Some(left) = rest.strip_suffix(word) {
            return speaks(name(left));
        }
    }
    if let Some(left) = rest.strip_suffix('(') {
        return (quoted || left.ends_with(' ')) && speaks(name(left));
    }
    if let Some(left) = rest.strip_suffix(',') {
        let argument = name(left);
        let call = left.trim_end_matches(['"', '\'', '`']).strip_suffix(argument).unwrap_or_default();
        let call = call.trim_end_matches(['"', '\'', '`']).ends_with('(');
        return quoted && (argument.starts_with('-') || call || argument.contains('_')) && speaks(argument);
    }
    if let Some(left) = rest.strip_suffix('>') {
        return tagged(left, &speaks);
    }
    rest.len() < opened.len() && after_blanks(rest, quoted, &speaks)
}

/// `name`, before `=` also `name: type`, and the second half of `"name": "…", "value"`, before an operator.
fn assigned(left: &str, typed: bool, speaks: &impl Fn(&str) -> bool) -> bool {
    let first = name(left);
    if speaks(first) {
        return true;
    }
    // `the password is: …`
    if [" is", " was"].iter().any(|verb| left.strip_suffix(verb).is_some_and(|left| speaks(name(left)))) {
        return true;
    }
    let unclosed = left.trim_end().trim_end_matches(CLOSERS);
    if first.eq_ignore_ascii_case("value") {
        let pair = unclosed.get(..unclosed.len() - first.len()).unwrap_or_default();
        return speaks(name(pair.trim_end_matches([' ', '\t', '\n', ',', '"', '\'', '`', '{'])));
    }
    let kind = |text: &str| text.len() <= 32 && text.chars().all(|c| c.is_alphanumeric() || "_&<>'[] .|?".contains(c));
    typed
        && left
            .rsplit_once(':')
            .is_some_and(|(named, of_kind)| !of_kind.trim().is_empty() && kind(of_kind) && speaks(name(named)))
}

/// `<name>VALUE`, and `<key>name</key><string>VALUE`.
fn tagged(left: &str, speaks: &impl Fn(&str) -> bool) -> bool {
    if let Some(key) = left.strip_suffix("<string").or_else(|| left.strip_suffix("<value")) {
        let key = key.trim_end();
        return ["</key>", "</name>"].iter().any(|end| key.strip_suffix(end).is_some_and(|key| speaks(name(key))));
    }
    let tag = name(left);
    left.strip_suffix(tag).is_some_and(|rest| rest.ends_with('<')) && speaks(tag)
}

/// `--password VALUE`, `ENV DB_PASSWORD VALUE`, `PASSWORD 'VALUE'` in SQL, `login … password VALUE` in `.netrc`.
fn after_blanks(left: &str, quoted: bool, speaks: &impl Fn(&str) -> bool) -> bool {
    let name = name(left);
    let variable = name.contains('_') && !name.bytes().any(|byte| byte.is_ascii_lowercase());
    let password = name.eq_ignore_ascii_case("password");
    // The settings of redis.
    let setting = ["requirepass", "masterauth"].iter().any(|setting| name.eq_ignore_ascii_case(setting));
    setting
        || ((name.starts_with('-') || variable) && speaks(name))
        || (password && (quoted || left.contains("login ") || left.contains("machine ")))
        || (quoted && ends_with_word(left, "identified by"))
}

const CLOSERS: [char; 6] = ['"', '\'', '`', ']', ')', '*'];

/// The name that a text ends with.
fn name(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\t']).trim_end_matches(CLOSERS);
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let length = text.bytes().rev().take_while(|byte| part(*byte)).count();
    let (before, name) = text.split_at_checked(text.len() - length).unwrap_or_default();
    // The name of one of our own placeholders does not count.
    if before.ends_with(PLACEHOLDER) { "" } else { name }
}

/// Whether a name suggests a credential. The value's own names always do.
pub(super) fn speaks_of_secret(name: &str, own: &[&str]) -> bool {
    // Many kinds of values follow these names, and most are not secrets.
    const VAGUE: [&str; 4] = ["auth", "cookie", "key", "signature"];
    const VAGUE_ENDINGS: &[&str] = &[
        "algorithm",
        "count",
        "endpoint",
        "format",
        "issuer",
        "keys",
        "length",
        "limit",
        "mechanism",
        "method",
        "provider",
        "size",
        "source",
        "through",
        "tokens",
        "total",
        "uri",
    ];
    if name.is_empty() {
        return false;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let of_secret = secret_like(last)
        && match words(last).as_slice() {
            [only] => !VAGUE.contains(&only.as_str()) && !VAGUE_ENDINGS.contains(&only.as_str()),
            [.., ending] => !VAGUE_ENDINGS.contains(&ending.as_str()),
            [] => false,
        };
    of_secret || own.contains(&kebab(name).as_str())
}

fn ends_with_word(text: &str, word: &str) -> bool {
    text.len() >= word.len() && text.get(text.len() - word.len()..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Whether the value, written as `§` in a text, is found.
    fn found(text: &str, value: &str) -> bool {
        let text = text.replace('§', value);
        let mut credentials = Credentials::default();
        credentials.add(value, 0);
        credentials.build();
        let mut found = false;
        credentials.each(text.as_bytes(), 0, Before::Line, |_| "app-key", |_, _| found = true);
        found
    }

    #[test]
    fn word_used_as_a_credential_is_found() {
        for text in [
            "POSTGRES_PASSWORD=§",
            "export PGPASSWORD='§'",
            "password: §",
            "password: \"§\",",
            r#"{"password":"§"}"#,
            r#"{\"password\":\"§\"}"#,
            r#"{\\\"db_password\\\": \\\"§\\\"}"#,
            "password = \"§\"",
            "password: str = \"§\"",
            "let password: &str = \"§\";",
            "const dbPassword: string = '§'",
            "password := `§`",
            "\"password\" => '§'",
            "env[\"DB_PASSWORD\"] = \"§\"",
            "${POSTGRES_PASSWORD:-§}",
            "if password == \"§\":",
            "set_password(\"§\")",
            "setenv(\"DB_PASSWORD\", \"§\", 1)",
            "connect(\"password\", \"§\")",
            r#"["--password", "§"]"#,
            "--password=§ ",
            "--password §",
            "--db-password \"§\"",
            "ENV POSTGRES_PASSWORD §",
            "ALTER USER x WITH PASSWORD '§';",
            "CREATE USER x IDENTIFIED BY '§'",
            "machine h login u password §",
            "localhost:5432:app:app:§",
            "postgres://§:§@localhost/app",
            "postgres://app:§@localhost",
            "redis://:§@cache",
            "url=postgres%3A%2F%2Fapp%3A§%40db",
            "https://app:§@example.com/?x=1",
            "curl -u app:§ http://x",
            "curl --user 'app:§' x",
            "curl -uapp:§ x",
            "mysql -u root -p§ db",
            "mysqldump -p'§'",
            "sshpass -p § ssh x",
            "docker login -u me -p § ghcr.io",
            "redis-cli -a §",
            "requirepass §",
            "?user=a&password=§&x=1",
            "Server=db;User Id=sa;Password=§;",
            "<password>§</password>",
            "<key>dbPassword</key><string>§</string>",
            r#"{"name": "DB_PASSWORD", "value": "§"}"#,
            r#"{\"name\": \"DB_PASSWORD\",\n \"value\": \"§\"}"#,
            "Authorization: Bearer §",
            "the password is §",
            "password was '§'.",
            "\x1b[33mPOSTGRES_PASSWORD\x1b[0m=\x1b[32m§\x1b[0m",
            "\\u001b[33mDB_PASSWORD\\u001b[0m=\\u001b[32m§",
            "password%3D§%26x",
            "spring.datasource.password=§",
            "APP_KEY=§",
            "app-key: §",
            "- DB_PASSWORD=§",
            "token=b'§'",
            "**password**: §",
            "password=\x1b[1m\x1b[K§\x1b[m",
        ] {
            assert!(found(text, "postgres"), "{text}");
        }
    }

    #[test]
    fn word_elsewhere_is_not_found() {
        for text in [
            "§",
            "database § is up",
            "--dbname=§",
            "POSTGRES_USER=§",
            "user: §",
            "postgres://§@localhost",
            "postgres://§:5432/app",
            "https://§.example.com:443@x",
            "image: §:16",
            "password for § is unset",
            "password of §",
            "the password §",
            "mkdir -p §",
            "psql -U § -d §",
            "ssh -p 22 §",
            "/var/lib/§/data",
            "key: §",
            "\"key\": \"§\"",
            "token_count=§",
            "PASSWORD_FILE=§",
            "POSTGRES_PASSWORD=§-dev",
            "POSTGRES_PASSWORD=my-§",
            "password=§/x",
            "password: §.example.com",
            "password: §_old",
            "[\"password\", \"§\"]",
            "[REDACTED:db-password]: §",
            "[REDACTED:db-password] §",
            "passwords: none, §",
            "docker run §",
            "a,§",
            "let § = password",
            "password\n§",
            "x: §",
            "(§)",
            "git commit -p §",
        ] {
            assert!(!found(text, "postgres"), "{text}");
        }
    }

    #[test]
    fn word_in_base64_used_as_a_credential_is_found() {
        for user in ["", "a", "ab", "abc", "postgres", "admin"] {
            let pair = STANDARD.encode(format!("{user}:postgres"));
            assert!(found(&format!("Authorization: Basic {pair}\r\n"), "postgres"), "{user}");
            assert!(found(&format!("{{\"auth\": \"{}\"}}", pair.trim_end_matches('=')), "postgres"), "{user}");
        }
        let encoded = STANDARD.encode("postgres");
        assert!(found(&format!("  password: {encoded}\n"), "postgres"));
        assert!(found(&format!("  password: {}\n", STANDARD.encode("postgres\n")), "postgres"));
        assert!(!found(&format!("name: {encoded}\n"), "postgres"));
        assert!(!found(&STANDARD.encode("image is app:postgres"), "postgres"));
    }

    #[test]
    fn word_with_punctuation_is_found_escaped_and_encoded() {
        for text in
            ["password=P@ssw0rd", r#"{"password":"P@ssw0rd"}"#, "postgres://app:P%40ssw0rd@db", "password=P%40ssw0rd&a"]
        {
            assert!(found(text, "P@ssw0rd"), "{text}");
        }
    }
}
