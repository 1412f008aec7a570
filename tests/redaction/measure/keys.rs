//! Multi-line keys, in every form in which tools print them.

use super::encode::{base64, json};
use super::random::Random;
use super::{Case, Set};

const KINDS: [&str; 8] = [
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "DSA PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "PGP PRIVATE KEY BLOCK",
    "RSA PRIVATE KEY, encrypted",
];

/// A key in armour, with a line end after its last line.
pub fn pem(r: &mut Random, kind: &str) -> String {
    let (label, width) = (kind.trim_end_matches(", encrypted"), if kind.starts_with("OPENSSH") { 70 } else { 64 });
    let (start, size): (&[u8], usize) = match label {
        "RSA PRIVATE KEY" => (&[0x30, 0x82, 0x04, 0xa3, 0x02, 0x01, 0x00, 0x02, 0x82, 0x01, 0x01, 0x00], 600),
        "EC PRIVATE KEY" => (&[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20], 114),
        "DSA PRIVATE KEY" => (&[0x30, 0x82, 0x03, 0x3e, 0x02, 0x01, 0x00], 420),
        "OPENSSH PRIVATE KEY" => (b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none", 220),
        "PGP PRIVATE KEY BLOCK" => (&[0x95, 0x03, 0x98, 0x04], 480),
        _ => (&[0x30, 0x82, 0x04, 0xbd, 0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09], 620),
    };
    let bytes = [start, &r.bytes(size)].concat();
    let body = base64(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    if kind.ends_with(", encrypted") {
        let salt = r.of("0123456789ABCDEF", 32);
        text.push_str(&format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{salt}\n\n"));
    }
    if label.starts_with("PGP") {
        text.push('\n');
    }
    for line in body.as_bytes().chunks(width) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    if label.starts_with("PGP") {
        text.push_str(&format!("={}\n", r.alnum(4)));
    }
    text + &format!("-----END {label}-----\n")
}

/// A line of key text. Parts shorter than sixteen characters do not count.
fn is_body(line: &str) -> bool {
    line.len() >= 16 && !line.starts_with("-----") && !line.contains(": ")
}

/// The lines of a key that must be redacted.
pub fn body(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| is_body(line)).map(str::to_owned).collect()
}

/// One case for each form of the set.
pub fn cases(r: &mut Random, set: Set) -> Vec<Case> {
    let forms: &[fn(&mut Random, &str) -> String] = match set {
        Set::Tuning => &FORMS_A,
        Set::HeldOut => &FORMS_B,
    };
    forms
        .iter()
        .map(|form| {
            let kind = r.pick(&KINDS);
            let key = pem(r, kind);
            let text = form(r, &key);
            // Some forms contain only a part of the key.
            let secrets = body(&key).into_iter().filter(|line| text.contains(line)).collect();
            Case { rule: "private-key", text, secrets }
        })
        .collect()
}

/// Each line with a prefix.
fn lines(key: &str, mut mark: impl FnMut(usize) -> String) -> String {
    key.lines().enumerate().map(|(at, line)| format!("{}{line}\n", mark(at))).collect()
}

/// Cut off after a whole line of key text.
fn without_footer(key: &str) -> String {
    cut(key, key.lines().filter(|line| is_body(line)).count())
}

/// The text up to the end of this number of key lines.
fn cut(key: &str, count: usize) -> String {
    let mut seen = 0;
    key.split_inclusive('\n')
        .take_while(|line| {
            let before = seen;
            seen += usize::from(is_body(line.trim_end()));
            before < count
        })
        .collect()
}

/// The characters `\n` instead of line ends.
fn one_line(key: &str) -> String {
    key.replace('\n', "\\n")
}

const FORMS_A: [fn(&mut Random, &str) -> String; 16] = [
    |_, key| format!("$ cat ~/.ssh/deploy\n{key}$ echo $?\n0\n"),
    |_, key| format!("$ type server.key\r\n{}C:\\work>", key.replace('\n', "\r\n")),
    |_, key| format!("tls:\n  key: |\n{}  port: 8443\n", lines(key, |_| "    ".into())),
    |_, key| format!("{}    40\tother line\n", lines(key, |at| format!("{:6}\t", at + 1))),
    |_, key| format!("diff --git a/id b/id\n+++ b/id\n@@ -0,0 +1,9 @@\n{} context\n", lines(key, |_| "+".into())),
    |_, key| format!("@@ -1,9 +1,9 @@\n{}+# end\n", lines(key, |_| " ".into())),
    |_, key| format!("{}[output truncated]\n", without_footer(key)),
    |_, key| format!("{{\"key\":\"{}\",\"next\":true}}\n", json(key)),
    |_, key| {
        let event = format!("{{\"private_key\":\"{}\"}}", json(key));
        format!("{{\"type\":\"tool_result\",\"content\":\"{}\"}}\n", json(&event))
    },
    |_, key| format!("DEPLOY_KEY=\"{}\"\nPORT=80\n", one_line(key)),
    |_, key| {
        let read = lines(key, |at| format!("{:6}\u{2192}", at + 1));
        format!(
            "{{\"type\":\"user\",\"message\":{{\"role\":\"user\",\"content\":[{{\"type\":\"tool_result\",\"content\":\"{}\"}}]}}}}\n",
            json(&read)
        )
    },
    |r, key| {
        let day = r.between(10, 28);
        lines(key, |at| format!("2026-10-{day}T09:14:{:02}.{:07}Z ", at % 60, 13 * at + 401))
    },
    |_, key| format!("\u{1b}[32m{}\u{1b}[0m\nwrote 1 file\n", key.trim_end()),
    |_, key| {
        let begun = json(cut(key, 3).trim_end());
        format!("{{\"type\":\"item.updated\",\"item\":{{\"aggregated_output\":\"{begun}\"}}}}\nnext\n")
    },
    |_, key| format!("key = '''\n{key}'''\n"),
    |_, key| format!("{{'private_key': '{}', 'user': 'ci'}}\n", one_line(key)),
];

const FORMS_B: [fn(&mut Random, &str) -> String; 16] = [
    |_, key| format!("Generating key pair\n{key}Done in 0.4s\n"),
    |_, key| format!("-> GET /key\r\n\r\n{}\r\n", key.replace('\n', "\r\n")),
    |_, key| format!("data = <<-EOT\n{}  EOT\n", lines(key, |_| "\t".into())),
    |_, key| lines(key, |at| format!("{}:", at + 7)),
    |_, key| format!("commit\n---\n a | 9 ---------\n@@ -1,9 +0,0 @@\n{}", lines(key, |_| "-".into())),
    |_, key| format!("index 1..2\n@@ -3,9 +3,8 @@ tls\n{}", lines(key, |_| "+    ".into())),
    |_, key| without_footer(key),
    |_, key| format!("{{\n  \"name\": \"ci\",\n  \"pem\": \"{}\"\n}}\n", json(key)),
    |_, key| {
        let inner = json(&format!("{{\"data\":{{\"key\":\"{}\"}}}}", json(key)));
        format!(
            "{{\"method\":\"item/completed\",\"params\":{{\"item\":{{\"type\":\"mcpToolCall\",\"result\":\"{inner}\"}}}}}}\n"
        )
    },
    |_, key| format!("export GIT_KEY='{}' && ./push.sh\n", one_line(key)),
    |_, key| {
        let shown = lines(key, |at| format!("{:4} | ", at + 1));
        format!("error: bad key\n{shown}     = help: check it\n")
    },
    |_, key| lines(key, |_| "web-1  | ".into()),
    |_, key| format!("> cat\n\u{1b}[2m{}\u{1b}[22m\n", key.trim_end().replace('\n', "\u{1b}[22m\n\u{1b}[2m")),
    |_, key| format!("<Key>\n{key}</Key>\n"),
    |_, key| format!("keys/id:{}\n", lines(key, |_| "> ".into())),
    |_, key| format!("Config {{ name: \"ci\", key: \"{}\", port: 22 }}\n", one_line(key)),
];
