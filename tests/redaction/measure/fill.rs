//! Templates: text with placeholders, written `«name»` or `«name:length»`.

use super::encode::{base64, percent};
use super::random::Random;

/// The value and its name.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    pub value: &'a str,
    /// In snake case.
    pub name: &'a str,
}

/// The text, and the parts that must be redacted: a template may contain a secret as it is, encoded, or next to
/// another.
pub fn fill(r: &mut Random, template: &str, pair: Pair<'_>) -> (String, Vec<String>) {
    let (mut text, mut secrets) = (String::new(), Vec::new());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('«') {
        let (place, after) = after.split_once('»').expect("a place ends");
        text.push_str(before);
        let (kind, length) = place.split_once(':').map_or((place, 0), |(kind, length)| (kind, length.parse().unwrap()));
        if let Some(secret) = secret_text(r, kind, pair) {
            text.push_str(&secret);
            secrets.push(secret);
        } else {
            text.push_str(&place_text(r, kind, length, pair));
        }
        rest = after;
    }
    (text + rest, secrets)
}

/// The value of a placeholder that is completely secret.
fn secret_text(r: &mut Random, kind: &str, pair: Pair<'_>) -> Option<String> {
    let secret = match kind {
        "s" => pair.value.to_owned(),
        "s in base64" => base64(pair.value),
        "s in percents" => percent(pair.value),
        "line in base64" => base64(format!("LANG=C\n{}={}\n", pair.name.to_uppercase(), pair.value)),
        "object in percents" => percent(&format!("{{\"{}\":\"{}\"}}", pair.name, pair.value)),
        "access key id" => format!("AKIA{}", r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        _ => return None,
    };
    Some(secret)
}

fn place_text(r: &mut Random, kind: &str, length: usize, pair: Pair<'_>) -> String {
    match kind {
        "ENV" => pair.name.to_uppercase(),
        "key" => pair.name.to_owned(),
        "kebab" => pair.name.replace('_', "-"),
        "dots" => pair.name.replace('_', "."),
        "words" => pair.name.replace('_', " "),
        "camel" => joined(pair.name, "", false),
        "Pascal" => joined(pair.name, "", true),
        "Header" => joined(pair.name, "-", true),
        "hex" => r.hex(length),
        "HEX" => r.hex(length).to_uppercase(),
        "alnum" => r.alnum(length),
        "lower" => r.lower(length),
        "upper" => r.upper(length),
        "digits" => r.digits(length),
        "b64" => r.base64(length),
        // This number of random bytes.
        "b64of" => base64(r.bytes(length)),
        "url64" => r.url_safe(length),
        "uuid" => r.uuid(),
        "UUID" => r.uuid().to_uppercase(),
        "sha" => r.hex(40),
        "sha256" => r.hex(64),
        "short" => r.hex(7),
        "n" => r.between(1, 400).to_string(),
        "big" => r.digits(6),
        "port" => r.between(1024, 49_000).to_string(),
        "ip" => format!("10.{}.{}.{}", r.below(256), r.below(256), r.between(1, 254)),
        "ver" => format!("{}.{}.{}", r.below(9), r.below(30), r.below(12)),
        "ts" => {
            let (day, clock) = (r.between(1, 30), clock(r));
            format!("2026-11-{day:02}T{clock}.{:03}Z", r.below(1000))
        }
        "day" => format!("2026-{:02}-{:02}", r.between(1, 12), r.between(1, 28)),
        "clock" => clock(r),
        "date" => format!("Tue, {:02} Nov 2026 {} GMT", r.between(1, 28), clock(r)),
        "host" => {
            format!("{}.{}.test", r.pick(&["api", "db", "git", "pkg", "auth"]), r.pick(&["acme", "corp", "initech"]))
        }
        "user" => r.pick(&["deploy", "alice", "bob", "svc_etl", "ci", "reports"]).to_owned(),
        "word" => r.pick(&["worker", "billing", "search", "orders", "gateway", "mailer", "cart", "report"]).to_owned(),
        "path" => format!(
            "{}/{}.{}",
            r.pick(&["src", "lib/core", "app/models", "internal/auth", "cmd/server", "packages/api/src"]),
            r.pick(&["token", "session", "main", "password_reset", "client", "credentials", "config"]),
            r.pick(&["rs", "ts", "py", "go", "rb", "java"])
        ),
        "e" => "\u{1b}".to_owned(),
        other => panic!("no place is called {other}"),
    }
}

fn clock(r: &mut Random) -> String {
    format!("{:02}:{:02}:{:02}", r.below(24), r.below(60), r.below(60))
}

fn joined(name: &str, mark: &str, first_upper: bool) -> String {
    let mut parts = Vec::new();
    for (at, part) in name.split('_').enumerate() {
        let (first, rest) = part.split_at(1);
        let first = if at > 0 || first_upper { first.to_uppercase() } else { first.to_owned() };
        parts.push(format!("{first}{rest}"));
    }
    parts.join(mark)
}
