//! The text before a value: its name, how the value is assigned, and what kind of secret the name indicates.

use crate::words::words;

/// Words near a digest that explain it.
pub(super) const DIGESTS: &[&str] = &[
    "sha1",
    "sha256",
    "sha512",
    "sha-",
    "md5",
    "commit",
    "integrity",
    "checksum",
    "digest",
    "hash",
    "revision",
    "fingerprint",
    "etag",
    "blob",
    "tree",
];

/// How a value is assigned to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Assign,
    /// An argument: `set("token", "…")`.
    Comma,
    Call,
    Blank,
}

/// The kind of value that a name indicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Password,
    Passphrase,
    Secret,
    Token,
    Key,
    /// `auth`, `cookie`, `credentials` and similar names, which can contain anything.
    Weak,
}

/// Words that end with `pass` but are not passwords.
const PASSES: &[&str] = &[
    "bypass",
    "compass",
    "surpass",
    "trespass",
    "subpass",
    "prepass",
    "minipass",
    "multipass",
    "onepass",
    "overpass",
    "underpass",
    "twopass",
    "singlepass",
];
/// Names of passes, as in renderers and compilers.
const STEPS: &[&str] = &[
    "render",
    "depth",
    "shader",
    "compute",
    "stencil",
    "sub",
    "draw",
    "lighting",
    "shadow",
    "opaque",
    "transparent",
    "bloom",
    "optimization",
    "first",
    "second",
    "single",
    "multi",
    "did",
    "will",
    "can",
    "tests",
    "test",
    "compile",
];

/// The context of a value.
#[derive(Debug)]
pub(super) struct ValueContext<'t> {
    pub(super) name: &'t str,
    pub(super) before_name: &'t str,
    pub(super) operator: Operator,
    pub(super) quoted: bool,
    /// Whether the line ends between the name and the value, in escaped text.
    pub(super) broken: bool,
    pub(super) name_quoted: bool,
    /// Whether the type between them is a number type.
    pub(super) is_number: bool,
}

/// Types of numbers in a declaration.
const NUMBERS: [&str; 17] = [
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "int", "number", "DWORD",
    "ULONG", "GLenum",
];

const QUOTES: [char; 4] = ['"', '\'', '`', '\\'];

impl<'t> ValueContext<'t> {
    /// Parses the text before a value backwards.
    pub(super) fn parse(before: &'t str) -> Self {
        let before = without_colour(before);
        let opened = without_quotes(before);
        let quoted = opened.len() < before.len();
        let mut rest = opened.trim_end();
        if quoted && !rest.ends_with(|c: char| !c.is_ascii_alphabetic()) {
            let letters = rest.bytes().rev().take_while(u8::is_ascii_alphabetic).count();
            if letters <= 2
                && let Some(shorter) = rest.get(..rest.len() - letters)
                && shorter.trim_end().ends_with(['=', ':', '(', ','])
            {
                rest = shorter.trim_end();
            }
        }
        let (rest_of_line, broken) = without_break(without_colour(rest));
        let unassigned = without_tags(rest_of_line);
        rest = unassigned;
        let mut operator = Operator::Blank;
        for (text, meaning) in [
            ("%3D", Operator::Assign),
            ("%3d", Operator::Assign),
            ("\\u003d", Operator::Assign),
            ("\\u003D", Operator::Assign),
            ("===", Operator::Assign),
            ("=>", Operator::Assign),
            ("->", Operator::Assign),
            (":=", Operator::Assign),
            ("|=", Operator::Assign),
            ("?=", Operator::Assign),
            ("==", Operator::Assign),
            ("=", Operator::Assign),
            ("::", Operator::Assign),
            (":", Operator::Assign),
            (">", Operator::Assign),
            ("|", Operator::Assign),
            (",", Operator::Comma),
            ("(", Operator::Call),
        ] {
            if let Some(shorter) = unassigned.strip_suffix(text) {
                rest = shorter.trim_end();
                operator = meaning;
                break;
            }
        }
        rest = without_colour(rest);
        if unassigned.ends_with('=') {
            // Go writes the type after the name, without a separator.
            let named = rest.strip_suffix(" string").map(str::trim_end);
            rest = named.filter(|named| !named.ends_with(':')).unwrap_or(rest);
        }
        if operator == Operator::Assign
            && let Some(named) = pair(rest)
        {
            rest = named;
        }
        let (before_name, name) = split_name(before, rest);
        let name_quoted = rest.trim_end_matches([']', ')', '*']).ends_with(QUOTES) || rest.ends_with(';');
        let context = Self { name, before_name, operator, quoted, broken, name_quoted, is_number: false };
        // A type between the name and the operator, as in `token: &str = "…"`, if no telling name is nearer.
        if operator == Operator::Assign
            && unassigned.ends_with('=')
            && context.class().is_none()
            && let Some(colon) = rest.rfind(':').filter(|colon| rest.len() - colon <= 30)
            && let (Some(named), Some(kind)) = (rest.get(..colon), rest.get(colon + 1..))
            && !kind.trim().is_empty()
            && kind.trim().chars().all(|c| c.is_alphanumeric() || "_&<>'[] .|".contains(c))
            && named.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        {
            let (before_name, name) = split_name(before, named);
            let is_number = NUMBERS.contains(&kind.trim()) || kind.trim().ends_with("_uint");
            return Self { name, before_name, operator, quoted, broken, name_quoted, is_number };
        }
        context
    }

    /// The kind that the name indicates with its last words; none if it is about something else (`token_count`,
    /// `public_key`).
    pub(super) fn class(&self) -> Option<Class> {
        let all = words(self.name);
        let mut names: &[String] = &all;
        while let Some((last, rest)) = names.split_last() {
            const SUFFIXES: [&str; 25] = [
                "base",
                "value",
                "string",
                "raw",
                "live",
                "prod",
                "production",
                "test",
                "dev",
                "staging",
                "b64",
                "base64",
                "hex",
                "new",
                "old",
                "current",
                "primary",
                "secondary",
                "default",
                "data",
                "plain",
                "plaintext",
                "text",
                "header",
                "v2",
            ];
            if rest.is_empty() || !(SUFFIXES.contains(&last.as_str()) || last.bytes().all(|b| b.is_ascii_digit())) {
                break;
            }
            names = rest;
        }
        let (last, qualifiers) = names.split_last()?;
        let last = last.trim_end_matches(|c: char| c.is_ascii_digit());
        let qualified = |list: &[&str]| qualifiers.iter().any(|word| list.contains(&word.as_str()));
        let before_last = qualifiers.last().map_or("", String::as_str);
        if last.ends_with("passphrase")
            || (last == "phrase" && matches!(before_last, "pass" | "seed" | "recovery"))
            || last == "mnemonic"
        {
            return Some(Class::Passphrase);
        }
        if ["password", "passwd", "pwd", "passcode", "passwords"].iter().any(|word| last.ends_with(word))
            || (last == "word" && before_last == "pass")
        {
            return Some(Class::Password)
                .filter(|_| !qualified(&["hashed", "forgot", "reset", "show", "min", "max", "encrypted"]));
        }
        if last == "pass" || (last.ends_with("pass") && last.len() <= 9 && !PASSES.contains(&last)) {
            let called = matches!(self.operator, Operator::Call | Operator::Comma)
                && self.name.rsplit('.').next() == Some("pass");
            return Some(Class::Password).filter(|_| {
                !called
                    && !qualified(STEPS)
                    && (!qualifiers.is_empty()
                        || last != "pass"
                        || self.quoted
                        || self.name == "PASS"
                        || self.is_flag())
            });
        }
        if last.ends_with("secret")
            || last == "secrets"
            || (matches!(last, "id" | "hash") && before_last == "secret") && self.name.is_empty()
        {
            return Some(Class::Secret);
        }
        if last.ends_with("token") || last == "jwt" || last == "pat" {
            const OTHER: &[&str] = &[
                "next",
                "page",
                "continuation",
                "pagination",
                "sync",
                "eos",
                "bos",
                "pad",
                "unk",
                "stop",
                "max",
                "min",
                "num",
                "total",
                "input",
                "output",
                "cached",
                "prompt",
                "completion",
                "reasoning",
                "special",
                "mask",
                "cls",
                "sep",
                "cancellation",
                "cancel",
                "parse",
                "syntax",
                "resume",
                "cursor",
                "design",
                "theme",
                "color",
                "public",
                "request",
                "idempotency",
            ];
            return Some(Class::Token).filter(|_| !qualified(OTHER));
        }
        if last == "key"
            || last == "keys"
            || last.ends_with("apikey")
            || [
                "accesskey",
                "secretkey",
                "privatekey",
                "authkey",
                "masterkey",
                "encryptionkey",
                "signingkey",
                "accountkey",
                "sharedkey",
            ]
            .contains(&last)
        {
            const OTHER: &[&str] = &[
                "primary",
                "foreign",
                "public",
                "pub",
                "cache",
                "partition",
                "sort",
                "hash",
                "range",
                "index",
                "idempotency",
                "dedupe",
                "row",
                "object",
                "map",
                "dict",
                "json",
                "translation",
                "i18n",
                "locale",
                "hot",
                "short",
                "group",
                "query",
                "bucket",
                "s3",
                "file",
                "path",
                "image",
                "route",
                "order",
                "column",
                "field",
                "unique",
                "composite",
                "event",
                "message",
                "metric",
                "label",
                "lookup",
                "id",
                "host",
                "publishable",
                "site",
                "react",
                "restore",
                "registry",
                "known",
                "gpg",
                "pgp",
                "candidate",
                "record",
                "item",
                "node",
                "tree",
                "state",
                "socket",
                "websocket",
                "accept",
                "recv",
                "receive",
                "import",
                "export",
                "min",
                "max",
            ];
            if qualified(OTHER) {
                return None;
            }
            return Some(if last == "key" && qualifiers.is_empty() { Class::Weak } else { Class::Key });
        }
        let weak = [
            "auth",
            "authorization",
            "cookie",
            "cookies",
            "credential",
            "credentials",
            "cred",
            "creds",
            "bearer",
            "webhook",
            "dsn",
            "salt",
            "hmac",
            "seed",
        ];
        weak.contains(&last).then_some(Class::Weak)
    }

    /// Whether the name indicates credentials without doubt, so that a UUID or plain hex counts as a secret, too.
    pub(super) fn is_credential(&self) -> bool {
        let all = words(self.name);
        let has = |list: &[&str]| all.iter().any(|word| list.iter().any(|l| word == l));
        has(&[
            "api",
            "apikey",
            "secret",
            "access",
            "auth",
            "private",
            "master",
            "encryption",
            "signing",
            "client",
            "bot",
            "admin",
            "authtoken",
            "accesstoken",
            "personal",
            "deploy",
            "license",
            "app",
            "application",
            "account",
            "snyk",
            "datadog",
            "dd",
            "heroku",
            "okta",
            "netlify",
            "vercel",
            "cloudflare",
            "cf",
            "twilio",
            "mailgun",
            "npm",
        ]) || self.name.eq_ignore_ascii_case("token")
            || (self.name.chars().any(char::is_uppercase) && self.names_variable())
    }

    pub(super) fn is_exactly_password(&self) -> bool {
        words(self.name).last().is_some_and(|word| ["password", "passwd", "pwd", "passcode"].contains(&word.as_str()))
    }

    /// Whether it is an environment variable: upper case with underscores.
    pub(super) fn names_variable(&self) -> bool {
        self.name.len() >= 3
            && self.name.contains('_')
            && self.name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    }

    /// Whether it is a declaration such as `trait Secret: `, which a type follows.
    pub(super) fn is_declared(&self) -> bool {
        let words = self.before_name.trim_end();
        self.operator == Operator::Assign
            && !self.quoted
            && words.len() < self.before_name.len()
            && ["trait", "struct", "enum", "type", "class", "interface", "impl", "use", "where"]
                .iter()
                .any(|word| words.strip_suffix(word).is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric())))
    }

    /// `--name value`.
    pub(super) fn is_flag(&self) -> bool {
        self.before_name.ends_with('-')
    }

    /// Whether it is `$token` or `user.token =`: what follows a use of a variable is not its value.
    pub(super) fn is_reference(&self) -> bool {
        self.before_name.ends_with("${") && self.operator != Operator::Assign
    }
}

/// Removes color codes at the end of the text.
fn without_colour(text: &str) -> &str {
    let mut rest = text;
    loop {
        let Some(code) = rest.strip_suffix('m') else { return rest };
        let code = code.trim_end_matches(|c: char| c.is_ascii_digit() || c == ';');
        let Some(escape) = code.strip_suffix('[') else { return rest };
        let ends = ["\u{1b}", "u001b", "u001B", "x1b", "x1B", "033", "e"];
        let Some(shorter) = ends.iter().find_map(|end| escape.strip_suffix(end)) else { return rest };
        rest = shorter.trim_end_matches('\\');
    }
}

/// Treats `"><value>` and `</key><string>` like `=`: the text up to the tags, with the character that ends the first one.
fn without_tags(text: &str) -> &str {
    let tag = |text: &'_ str| {
        let inside = text.strip_suffix('>')?;
        let open = inside.rfind('<')?;
        inside.get(open + 1..)?.chars().all(|c| c.is_ascii_alphabetic() || c == '/').then_some(open)
    };
    let Some(before) = tag(text).and_then(|at| text.get(..at)) else { return text };
    match tag(before) {
        // The content of the closed element is the name.
        Some(at) if before.get(at..).is_some_and(|tag| tag.starts_with("</")) => before.get(..at).unwrap_or(before),
        _ if before.ends_with('>') => before,
        _ => text,
    }
}

/// Removes an escaped line end, as in `name: |\
///   `, and returns whether there was one.
fn without_break(text: &str) -> (&str, bool) {
    let bare = text.trim_end_matches([' ', '\t', '+', '-']);
    let Some(line) = bare.strip_suffix('n').filter(|line| line.ends_with('\\')) else { return (text, false) };
    let line = line.trim_end_matches(['\\', ' ', '\t', '-', '+']);
    let line = line.strip_suffix(['|', '>']).filter(|line| line.trim_end().ends_with(':')).unwrap_or(line).trim_end();
    if line.ends_with([':', '=']) { (line, true) } else { (text, false) }
}

/// Removes opening quotes, also escaped ones and those of markup.
fn without_quotes(text: &str) -> &str {
    let bare = text.trim_end_matches(QUOTES);
    let entity = ["&quot;", "&apos;", "&#34;", "&#39;"].iter().find_map(|entity| bare.strip_suffix(entity));
    entity.map_or(bare, |bare| bare.trim_end_matches(QUOTES))
}

/// If the text ends with the second half of a pair such as `"name": "TOKEN", "value"`, returns the text up to the name.
fn pair(text: &str) -> Option<&str> {
    let value = without_quotes(text);
    let before = value.strip_suffix("value").or_else(|| value.strip_suffix("Value"))?;
    if before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) && !before.ends_with("\\n") {
        return None;
    }
    let before = without_quotes(before).trim_end_matches([' ', '\t', '+', '-']);
    let before = before.strip_suffix('n').map_or(before, |rest| if rest.ends_with('\\') { rest } else { before });
    let before = before.trim_end_matches(['\\', ' ', '\t', ',']);
    // The object that contains the name.
    let before = before.strip_suffix('{').map_or(before, |name| name.trim_end_matches([' ', '\t', ':', '=']));
    Some(without_quotes(before)).filter(|name| !name.is_empty())
}

/// Splits the name off the end of `rest`, which is a prefix of `before`.
fn split_name<'t>(before: &'t str, rest: &'t str) -> (&'t str, &'t str) {
    let rest = without_quotes(rest).trim_end_matches(|c| QUOTES.contains(&c) || matches!(c, ']' | ')' | '*'));
    let length: usize = rest
        .chars()
        .rev()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .map(char::len_utf8)
        .sum();
    let (before_name, name) = rest.split_at(rest.len() - length);
    let bare = name.trim_start_matches(['-', '.']);
    // The `n` of an escaped newline is not part of the name.
    let (before_name, name) = match before_name.strip_suffix('\\') {
        Some(_) if bare.starts_with(['n', 't', 'r']) && bare.len() > 1 => (before_name, bare.get(1..).unwrap_or(bare)),
        _ => (before.get(..before_name.len() + name.len() - bare.len()).unwrap_or(before_name), bare),
    };
    (before_name, name)
}

/// Whether one of `words` occurs, without regard to case.
pub(super) fn mentions(text: &str, words: &[&str]) -> bool {
    contains_any(text, words)
}

pub(super) fn contains_any(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

/// Whether the value continues a path or a file name.
pub(super) fn ends_like_a_path(before: &str) -> bool {
    before.trim_end_matches(['"', '\'', '`']).ends_with('/')
}
