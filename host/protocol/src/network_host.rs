//! Hosts, ports, and rules for them. The configuration, payloads and the proxy of a run use the same parser, so that
//! all of them read the same text in the same way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Maximum length of a host name, in bytes (RFC 1035).
const MAX_NAME: usize = 253;
/// Maximum length of a label of a host name, in bytes.
const MAX_LABEL: usize = 63;
/// The default port of a rule: HTTPS.
const DEFAULT_PORT: u16 = 443;

/// A host in its canonical form.
///
/// Names are lower case ASCII without a final dot. All notations of an address are equal: an IPv4 address as one
/// number, in octal, in hexadecimal, or inside an IPv6 address (`::ffff:127.0.0.1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Reads a host without a port. An IPv6 address may be in brackets.
    ///
    /// # Errors
    /// The reason why the text is not a valid host.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or("has a bracket that is not closed")?;
            return ipv6(inner).map(Self::Address).ok_or_else(|| "is not a valid IPv6 address".to_owned());
        }
        if text.contains(':') {
            return ipv6(text).map(Self::Address).ok_or_else(|| "is not a valid IPv6 address".to_owned());
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if !name.is_ascii() {
            return Err("holds characters that are not ASCII; write its punycode form (xn--…)".to_owned());
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(format!("is not a valid host name: it must have 1 to {MAX_NAME} characters"));
        }
        let name = name.to_ascii_lowercase();
        let valid = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !name.split('.').all(valid) {
            return Err("is not a valid host name".to_owned());
        }
        if name.rsplit('.').next().is_some_and(is_number) {
            let address = ipv4(&name).ok_or("is not a valid IPv4 address")?;
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        Ok(Self::Name(name))
    }

    /// Whether it is this machine by its usual name or address: `localhost`, `127.0.0.1` or `::1`.
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => {
                *address == IpAddr::V4(Ipv4Addr::LOCALHOST) || *address == IpAddr::V6(Ipv6Addr::LOCALHOST)
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
        }
    }
}

/// Reads an IPv6 address without a zone. An IPv4-mapped address becomes an IPv4 address.
fn ipv6(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
}

/// Whether a label is a number. By the URL standard, a host whose last label is a number can only be an IPv4 address.
fn is_number(label: &str) -> bool {
    let hexadecimal =
        label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads an IPv4 address in any notation that resolvers accept: one to four parts, each decimal, octal or hexadecimal.
/// The last part fills the remaining bytes.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(ipv4_part).collect::<Option<_>>()?;
    let (last, head) = parts.split_last()?;
    if head.len() > 3 || head.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 8 * (4 - head.len() as u32);
    if *last >= 1 << room {
        return None;
    }
    let head = head.iter().fold(0_u64, |value, part| (value << 8) | part);
    u32::try_from((head << room) | last).ok().map(Ipv4Addr::from)
}

fn ipv4_part(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` would accept a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().filter(|value| u32::try_from(*value).is_ok())
}

/// The hosts of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: every name.
    Any,
    /// `*.example.com`: every subdomain, but not the domain itself.
    Below(String),
    /// This name.
    Name(String),
    /// This address.
    Address(IpAddr),
    /// This machine: `localhost`, `127.0.0.1` and `::1`.
    Localhost,
}

impl HostPattern {
    /// Whether it matches only this machine.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        match self {
            Self::Localhost => true,
            Self::Address(address) => address.is_loopback(),
            Self::Any | Self::Below(_) | Self::Name(_) => false,
        }
    }
}

/// A rule of an allow list: hosts, and one port.
///
/// Its text is `api.example.com`, `*.example.com`, `git.example.com:8443`, `192.0.2.7`, `[2001:db8::7]:8443`,
/// `localhost:8080` or `*`. The default port is 443. A rule for this machine must name the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostRule {
    /// The hosts.
    pub pattern: HostPattern,
    /// The port.
    pub port: u16,
}

impl HostRule {
    /// Whether the rule matches a host and port.
    #[must_use]
    pub fn matches(&self, host: &Host, port: u16) -> bool {
        port == self.port
            && match (&self.pattern, host) {
                (HostPattern::Localhost, host) => host.is_localhost(),
                (HostPattern::Any, Host::Name(name)) => name != "localhost",
                (HostPattern::Below(suffix), Host::Name(name)) => {
                    name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
                }
                (HostPattern::Name(wanted), Host::Name(name)) => wanted == name,
                (HostPattern::Address(wanted), Host::Address(address)) => wanted == address,
                _ => false,
            }
    }
}

impl FromStr for HostRule {
    type Err = String;

    /// # Errors
    /// The reason, as the rest of a sentence that begins with the entry, and what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") || text.contains(['/', '@', '%', '?', '#']) {
            return Err("must be a host or host:port, without a scheme, user or path".to_owned());
        }
        let (host, port) = split_port(text)?;
        let pattern = if host == "*" {
            HostPattern::Any
        } else if let Some(suffix) = host.strip_prefix("*.") {
            match Host::parse(suffix)? {
                Host::Name(name) if name != "localhost" => HostPattern::Below(name),
                _ => return Err("must have a domain name after `*.`".to_owned()),
            }
        } else if host.contains('*') {
            return Err("may have `*` only as the whole first part: *.example.com".to_owned());
        } else {
            match Host::parse(host)? {
                found if found.is_localhost() => HostPattern::Localhost,
                Host::Name(name) if name.ends_with(".localhost") => {
                    return Err("must be written as localhost:PORT".to_owned());
                }
                Host::Name(name) => HostPattern::Name(name),
                Host::Address(address) => {
                    let plain = host.trim_matches(['[', ']']).parse::<IpAddr>();
                    if plain.is_err() || plain.is_ok_and(|plain| plain != address) {
                        return Err(format!("must be written as {}", Host::Address(address)));
                    }
                    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
                    if address.is_unspecified() || address.is_multicast() || broadcast {
                        return Err("is not an address of one host".to_owned());
                    }
                    HostPattern::Address(address)
                }
            }
        };
        match port {
            Some(port) => Ok(Self { pattern, port }),
            None if pattern.is_loopback() => {
                Err("must name its port, because it is this machine: localhost:PORT".to_owned())
            }
            None => Ok(Self { pattern, port: DEFAULT_PORT }),
        }
    }
}

/// Splits a host and its port, if there is one. An IPv6 address with a port must be in brackets.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or("has a bracket that is not closed")?;
        let (host, rest) = text.split_at(end + 1);
        match rest {
            "" => (host, None),
            rest => (host, Some(rest.strip_prefix(':').ok_or("must have `:` and a port, or nothing, after `]`")?)),
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = port.map(|digits| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u16>().ok().filter(|port| plain && *port > 0);
        number.ok_or_else(|| "must have a port from 1 to 65535 after the `:`".to_owned())
    });
    Ok((host, port.transpose()?))
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Below(suffix) => write!(f, "*.{suffix}")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Address(address) => Host::Address(*address).fmt(f)?,
            HostPattern::Localhost => f.write_str("localhost")?,
        }
        if self.port == DEFAULT_PORT && self.pattern != HostPattern::Localhost {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> String {
        match Host::parse(text) {
            Ok(Host::Name(name)) => format!("name {name}"),
            Ok(Host::Address(address)) => format!("address {address}"),
            Err(_) => "error".to_owned(),
        }
    }

    #[test]
    fn all_notations_of_a_host_have_one_form() {
        for (text, expected) in [
            ("API.Example.COM", "name api.example.com"),
            ("api.example.com.", "name api.example.com"),
            ("xn--bcher-kva.example", "name xn--bcher-kva.example"),
            ("_service.example", "name _service.example"),
            ("127.0.0.1", "address 127.0.0.1"),
            ("127.0.0.1.", "address 127.0.0.1"),
            ("2130706433", "address 127.0.0.1"),
            ("0x7f000001", "address 127.0.0.1"),
            ("0X7F.1", "address 127.0.0.1"),
            ("0x7f.0.0.0x1", "address 127.0.0.1"),
            ("127.1", "address 127.0.0.1"),
            ("0177.0.0.01", "address 127.0.0.1"),
            ("169.254.43518", "address 169.254.169.254"),
            ("0", "address 0.0.0.0"),
            ("0x", "address 0.0.0.0"),
            ("4294967295", "address 255.255.255.255"),
            ("[::1]", "address ::1"),
            ("::1", "address ::1"),
            ("[0:0:0:0:0:0:0:1]", "address ::1"),
            ("[::ffff:127.0.0.1]", "address 127.0.0.1"),
            ("[::ffff:a9fe:a9fe]", "address 169.254.169.254"),
        ] {
            assert_eq!(host(text), expected, "{text:?}");
        }
    }

    #[test]
    fn rejects_invalid_hosts() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a\0b",
            "a%2e",
            "user@host",
            "a/b",
            "bücher.example",
            "１２７.0.0.1",
            "[::1",
            "::1]",
            "[fe80::1%eth0]",
            "fe80::1%25eth0",
            "[127.0.0.1]",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3.256",
            "4294967296",
            "0xg.1",
            "1.2.3.0x",
            "09.1.1.1",
            "a:80",
            "-:-",
            "99999999999999999999999",
            "1..1",
        ] {
            let found = host(text);
            // `1.2.3.0x` is an address for resolvers; all others here are invalid.
            assert!(found == "error" || text == "1.2.3.0x", "{text:?}: {found}");
        }
        assert_eq!(host(&"a".repeat(64)), "error");
        assert_eq!(host(&format!("{}a", "abc.".repeat(64))), "error");
    }

    #[test]
    fn rules_round_trip_through_their_text() {
        for (text, shown) in [
            ("API.example.com", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("api.example.com:80", "api.example.com:80"),
            ("*.Example.com", "*.example.com"),
            ("*.example.com:8443", "*.example.com:8443"),
            ("*", "*"),
            ("*:80", "*:80"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:8080", "10.1.2.3:8080"),
            ("[2001:db8::7]", "[2001:db8::7]"),
            ("2001:db8::7", "[2001:db8::7]"),
            ("[2001:db8::7]:8443", "[2001:db8::7]:8443"),
            ("localhost:8080", "localhost:8080"),
            ("localhost:443", "localhost:443"),
            ("127.0.0.1:8080", "localhost:8080"),
            ("[::1]:8080", "localhost:8080"),
            ("127.0.0.2:8080", "127.0.0.2:8080"),
        ] {
            let rule: HostRule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.to_string(), shown, "{text:?}");
            assert_eq!(shown.parse::<HostRule>().unwrap(), rule);
        }
    }

    #[test]
    fn invalid_rule_error_says_what_to_write() {
        for (text, part) in [
            ("https://api.example.com", "without a scheme"),
            ("user@example.com", "without a scheme"),
            ("example.com/path", "without a scheme"),
            ("", "1 to 253"),
            ("*.", "1 to 253"),
            ("a.*.example.com", "only as the whole first part"),
            ("*example.com", "only as the whole first part"),
            ("**.example.com", "only as the whole first part"),
            ("*.localhost", "a domain name after"),
            ("*.1.2.3.4", "a domain name after"),
            ("foo.localhost:1", "localhost:PORT"),
            ("localhost", "must name its port"),
            ("127.0.0.1", "must name its port"),
            ("127.0.0.9", "must name its port"),
            ("[::1]", "must name its port"),
            ("::1", "must name its port"),
            ("2130706433:80", "must name"),
            ("0.0.0.0:80", "of one host"),
            ("224.0.0.1:80", "of one host"),
            ("255.255.255.255", "of one host"),
            ("[::]:80", "of one host"),
            ("[ff02::1]:80", "of one host"),
            ("0xa000001:80", "10.0.0.1"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1"),
            ("example.com:", "a port from 1"),
            ("example.com:0", "a port from 1"),
            ("example.com:+80", "a port from 1"),
            ("example.com:65536", "a port from 1"),
            ("example.com:*", "a port from 1"),
            ("[::1]80", "after `]`"),
            ("[::1", "not closed"),
            ("bücher.example", "punycode"),
            ("a b", "not a valid host name"),
        ] {
            match text.parse::<HostRule>() {
                Err(error) => assert!(error.contains(part), "{text:?}: {error}"),
                // An unusual notation of this machine, with a port.
                Ok(rule) => assert_eq!((text, rule.to_string().as_str()), ("2130706433:80", "localhost:80")),
            }
        }
    }

    #[test]
    fn rule_matches_only_its_hosts() {
        let matches =
            |rule: &str, host: &str, port| rule.parse::<HostRule>().unwrap().matches(&Host::parse(host).unwrap(), port);
        for (rule, host, port) in [
            ("example.com", "EXAMPLE.com.", 443),
            ("example.com:80", "example.com", 80),
            ("*.example.com", "a.example.com", 443),
            ("*.example.com", "a.b.example.com", 443),
            ("*", "anything.example", 443),
            ("10.0.0.1", "10.0.0.1", 443),
            ("10.0.0.1", "0xa000001", 443),
            ("[2001:db8::7]", "[2001:0db8::0007]", 443),
            ("localhost:80", "127.0.0.1", 80),
            ("localhost:80", "[::1]", 80),
            ("localhost:80", "[::ffff:127.0.0.1]", 80),
            ("127.0.0.1:80", "LOCALHOST", 80),
        ] {
            assert!(matches(rule, host, port), "{rule} {host}:{port}");
        }
        for (rule, host, port) in [
            ("example.com", "example.com", 80),
            ("example.com", "a.example.com", 443),
            ("example.com", "example.com.evil.com", 443),
            ("*.example.com", "example.com", 443),
            ("*.example.com", "evilexample.com", 443),
            ("*.example.com", "a.example.com.evil.com", 443),
            ("*", "localhost", 443),
            ("*", "10.0.0.1", 443),
            ("localhost:80", "127.0.0.2", 80),
            ("localhost:80", "localhost", 81),
            ("localhost:80", "localhost.example.com", 80),
            ("10.0.0.1", "10.0.0.2", 443),
        ] {
            assert!(!matches(rule, host, port), "{rule} {host}:{port}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}|[0-9a-fx.:\\[\\]*%@-]{0,40}") {
            let _ = text.parse::<HostRule>();
            if let Ok(host) = Host::parse(&text) {
                // The displayed form is read as the same host.
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }

        #[test]
        fn all_notations_of_an_address_are_equal(value: u32) {
            let [a, b, c, d] = value.to_be_bytes();
            let expected = Host::Address(Ipv4Addr::from(value).into());
            for text in [
                format!("{a}.{b}.{c}.{d}"),
                format!("{value}"),
                format!("0x{value:x}"),
                format!("0{value:o}"),
                format!("{a}.{}", value & 0xff_ffff),
                format!("0x{a:X}.0{b:o}.{}", value & 0xffff),
                format!("[::ffff:{a}.{b}.{c}.{d}]"),
            ] {
                prop_assert_eq!(Host::parse(&text), Ok(expected.clone()), "{}", text);
            }
        }
    }
}
