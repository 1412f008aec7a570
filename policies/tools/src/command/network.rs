//! Commands that use the network, and the hosts that they name.

use crate::act::Command;
use crate::text::{DYNAMIC, is_open};

/// Programs that use the network whatever their arguments are.
const PROGRAMS: &[&str] = &[
    "curl",
    "wget",
    "wget2",
    "aria2c",
    "http",
    "https",
    "xh",
    "xhs",
    "curlie",
    "lynx",
    "w3m",
    "links",
    "ssh",
    "autossh",
    "mosh",
    "scp",
    "sftp",
    "ftp",
    "lftp",
    "tftp",
    "nc",
    "ncat",
    "netcat",
    "socat",
    "telnet",
    "dig",
    "nslookup",
    "host",
    "ping",
    "ping6",
    "traceroute",
    "whois",
    "nmap",
    "rclone",
    "rsh",
    "websocat",
    "grpcurl",
];

/// Programs whose first operands are hosts.
const HOST_FIRST: &[&str] = &[
    "ssh",
    "autossh",
    "mosh",
    "sftp",
    "ftp",
    "lftp",
    "tftp",
    "nc",
    "ncat",
    "netcat",
    "telnet",
    "dig",
    "nslookup",
    "host",
    "ping",
    "ping6",
    "traceroute",
    "whois",
    "nmap",
    "rsh",
];

/// Programs whose operands are addresses, with or without a scheme.
const ADDRESSES: &[&str] = &[
    "curl", "wget", "wget2", "aria2c", "http", "https", "xh", "xhs", "curlie", "lynx", "w3m", "links", "websocat",
    "grpcurl",
];

/// Programs whose operands can be `HOST:PATH`.
const REMOTE_PATHS: &[&str] = &["scp", "rsync", "git", "sftp"];

/// Programs to which an address is only a text.
const TEXTUAL: &[&str] = &["echo", "printf", "grep", "egrep", "fgrep", "rg", "sed", "awk", "test", "[", "jq", "tee"];

pub(crate) fn is_network_program(program: &str) -> bool {
    PROGRAMS.contains(&program)
}

/// Adds the hosts of a command.
pub(super) fn of(command: &Command, hosts: &mut Vec<String>, network: &mut bool) {
    let program = command.program.as_str();
    *network |= is_network_program(program);
    if TEXTUAL.contains(&program) {
        return;
    }
    let values = command.options.iter().filter(|option| option.name.starts_with("--") || option.name == "-x");
    let words = command.operands.iter().map(|operand| operand.text.as_str());
    for (index, word) in words.chain(values.filter_map(|option| option.value.as_deref())).enumerate() {
        let is_operand = index < command.operands.len();
        let host = if word.contains("://") {
            host_of(word)
        } else if is_operand && (ADDRESSES.contains(&program) || HOST_FIRST.contains(&program) && index == 0) {
            host_of(&format!("x://{word}"))
        } else if is_operand && REMOTE_PATHS.contains(&program) {
            remote(word)
        } else if is_operand && program == "socat" {
            socat(word)
        } else {
            None
        };
        if let Some(host) = host {
            *network = true;
            hosts.push(host);
        }
    }
}

/// The host of an address `SCHEME://USER@HOST:PORT/PATH`, in small letters; none for a file.
pub(crate) fn host_of(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    if scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (!host.is_empty()).then_some(host)
}

fn remote(word: &str) -> Option<String> {
    let (host, _) = word.split_once(':')?;
    let host = host.rsplit('@').next().unwrap_or_default();
    // A single letter is a drive.
    let is_name = !host.contains(['/', ' ']) && (host.len() > 1 || is_open(host));
    // `HEAD:path` and `main:main` are names of git; a host has a dot or a user.
    (is_name && (word.contains('@') || host.contains('.') || host.contains(DYNAMIC))).then(|| host.to_ascii_lowercase())
}

fn socat(word: &str) -> Option<String> {
    let (kind, rest) = word.split_once(':')?;
    let kind = kind.to_ascii_uppercase();
    ["TCP", "UDP", "OPENSSL", "SSL", "SCTP", "PROXY", "SOCKS"]
        .iter()
        .any(|name| kind.starts_with(name))
        .then(|| rest.split(':').next().unwrap_or_default().to_ascii_lowercase())
        .filter(|host| !host.is_empty())
}
