//! The allow list of a run, and the decision about a host.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{AddressScope, classify};
use ostler_protocol::{Host, HostPattern, HostRule, NetworkReason};

/// The origin of a rule. Rules of the operator may allow more than those of a plugin or a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// A provider plugin: the hosts of its models. Only public hosts.
    Plugin,
    /// A payload or profile. Names may resolve only to public addresses; addresses of private networks and ports of this
    /// machine are allowed only if the rule is that address or port.
    Payload,
    /// The configuration. Names may also resolve to private networks, and every valid [`HostRule`] is accepted.
    Operator,
}

/// An entry that is not a valid rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEntry {
    /// Its position in the list.
    pub index: usize,
    /// What is wrong with it, beginning with the entry.
    pub message: String,
}

/// The hosts that a run may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    rules: Vec<(HostRule, RuleSource)>,
}

impl AllowList {
    /// Reads entries such as `api.example.com`, `*.example.com:8443` or `localhost:8080`; see [`HostRule`].
    ///
    /// # Errors
    /// Every entry that is not a valid rule, or not permitted for its source.
    pub fn parse<S: AsRef<str>>(entries: &[S], source: RuleSource) -> Result<Self, Vec<InvalidEntry>> {
        let (mut rules, mut errors) = (Vec::with_capacity(entries.len()), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            match parse_rule(entry.as_ref(), source) {
                Ok(rule) => rules.push((rule, source)),
                Err(message) => errors.push(InvalidEntry { index, message }),
            }
        }
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    /// The hosts of the values that are URLs (`http`, `https`, `ws` or `wss`), as rules of the operator: the endpoints
    /// that the configuration of a provider names are allowed by themselves. Other values are ignored.
    pub fn of_urls<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let rules = values.into_iter().filter_map(url_rule).map(|rule| (rule, RuleSource::Operator));
        Self { rules: rules.collect() }
    }

    /// Adds the rules of another list.
    pub fn extend(&mut self, other: Self) {
        for rule in other.rules {
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
            }
        }
    }

    /// The ports of this machine that the rules name, each once.
    #[must_use]
    pub fn loopback_ports(&self) -> Vec<u16> {
        let local = self.rules.iter().filter(|(rule, _)| rule.pattern.is_loopback());
        let ports: BTreeSet<u16> = local.map(|(rule, _)| rule.port).collect();
        ports.into_iter().collect()
    }

    /// The rules as text, for logs and records.
    pub fn entries(&self) -> impl Iterator<Item = String> + '_ {
        self.rules.iter().map(|(rule, _)| rule.to_string())
    }
}

/// Parses an entry and checks that its source may have it.
///
/// # Errors
/// What is wrong with it, beginning with the entry.
fn parse_rule(entry: &str, source: RuleSource) -> Result<HostRule, String> {
    let rule: HostRule = entry.parse().map_err(|error| format!("{entry:?} {error}"))?;
    let class = match &rule.pattern {
        HostPattern::Address(address) => classify(*address),
        HostPattern::Localhost => Some(NetworkReason::LoopbackAddress),
        HostPattern::Any if source == RuleSource::Plugin => {
            return Err(format!("{entry:?} is too wide for a plugin: name its hosts"));
        }
        HostPattern::Below(suffix) if source != RuleSource::Operator && !suffix.contains('.') => {
            return Err(format!("{entry:?} is too wide: name at least two parts after `*.`"));
        }
        HostPattern::Any | HostPattern::Below(_) | HostPattern::Name(_) => None,
    };
    match (class, source) {
        (None, _) => Ok(rule),
        (Some(_), RuleSource::Plugin) => Err(format!("{entry:?} is not a public host, and a plugin may name no other")),
        (Some(NetworkReason::LoopbackAddress | NetworkReason::PrivateAddress), RuleSource::Payload)
        | (Some(_), RuleSource::Operator) => Ok(rule),
        (Some(_), RuleSource::Payload) => {
            Err(format!("{entry:?} can only be allowed in the configuration: [sandbox] allow_hosts"))
        }
    }
}

fn url_rule(value: &str) -> Option<HostRule> {
    let (scheme, _) = value.split_once("://")?;
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return None,
    };
    let uri: hyper::Uri = value.trim().parse().ok()?;
    let host = Host::parse(uri.host()?).ok()?;
    let port = uri.port_u16().unwrap_or(port);
    let pattern = match host {
        host if host.is_localhost() => HostPattern::Localhost,
        Host::Name(name) => HostPattern::Name(name),
        // Servers listen on `0.0.0.0`; a client that connects to it means this machine.
        Host::Address(address) if address.is_unspecified() => HostPattern::Localhost,
        Host::Address(address) => HostPattern::Address(address),
    };
    Some(HostRule { pattern, port })
}

/// How an allowed host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The name must be resolved, and its addresses checked with
    /// [`check_address`](super::check_address).
    LookUp(String, AddressScope),
    /// These addresses, which the rule itself names.
    Addresses(Vec<IpAddr>),
}

/// Decides whether a run may reach a host and port, without network access.
///
/// # Errors
/// [`NetworkReason::NotAllowed`]: no rule names it.
pub fn decide(host: &Host, port: u16, allowed: &AllowList) -> Result<Route, NetworkReason> {
    let matching = || allowed.rules.iter().filter(|(rule, _)| rule.matches(host, port));
    let scope = |(rule, source): &(HostRule, RuleSource)| match (source, &rule.pattern) {
        // `*` means the public internet, for every source.
        (RuleSource::Operator, HostPattern::Name(_) | HostPattern::Below(_)) => AddressScope::Internal,
        _ => AddressScope::Public,
    };
    let widest = matching().map(scope).max().ok_or(NetworkReason::NotAllowed)?;
    Ok(match host {
        host if host.is_localhost() => Route::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        Host::Name(name) => Route::LookUp(name.clone(), widest),
        Host::Address(address) => Route::Addresses(vec![*address]),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn list(entries: &[&str], source: RuleSource) -> AllowList {
        AllowList::parse(entries, source).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn decided(host: &str, port: u16, allowed: &AllowList) -> Result<Route, NetworkReason> {
        decide(&Host::parse(host).unwrap(), port, allowed)
    }

    #[test]
    fn host_without_a_rule_is_refused() {
        let allowed =
            list(&["api.example.com", "*.example.net", "10.0.0.1:80", "localhost:8080"], RuleSource::Operator);
        for (host, port) in [
            ("example.com", 443),
            ("api.example.com", 80),
            ("example.net", 443),
            ("10.0.0.1", 443),
            ("localhost", 8081),
            ("127.0.0.2", 8080),
            ("0x7f.2", 8080),
            ("169.254.169.254", 80),
        ] {
            assert_eq!(decided(host, port, &allowed), Err(NetworkReason::NotAllowed), "{host}:{port}");
        }
        assert_eq!(decided("a.example", 443, &AllowList::default()), Err(NetworkReason::NotAllowed));
    }

    #[test]
    fn only_rules_of_the_operator_reach_private_networks_by_name() {
        let scope = |host: &str, allowed: &AllowList| match decided(host, 443, allowed) {
            Ok(Route::LookUp(_, scope)) => scope,
            other => panic!("{host}: {other:?}"),
        };
        for source in [RuleSource::Plugin, RuleSource::Payload] {
            let allowed = list(&["a.example.com", "*.b.example.com"], source);
            assert_eq!(scope("a.example.com", &allowed), AddressScope::Public);
            assert_eq!(scope("x.b.example.com", &allowed), AddressScope::Public);
        }
        let operator = list(&["a.example.com", "*.corp", "*"], RuleSource::Operator);
        assert_eq!(scope("a.example.com", &operator), AddressScope::Internal);
        assert_eq!(scope("gateway.corp", &operator), AddressScope::Internal);
        assert_eq!(scope("other.example", &operator), AddressScope::Public);
        // The widest matching rule counts.
        let mut both = list(&["a.example.com"], RuleSource::Plugin);
        both.extend(operator);
        assert_eq!(scope("a.example.com", &both), AddressScope::Internal);
    }

    #[test]
    fn rules_for_addresses_and_loopback_ports_match_exactly() {
        let allowed = list(&["localhost:8080", "10.0.0.1:80", "127.0.0.5:1"], RuleSource::Payload);
        let loopback: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(decided(host, 8080, &allowed), Ok(Route::Addresses(loopback.clone())), "{host}");
        }
        let one = |text: &str| Ok(Route::Addresses(vec![text.parse().unwrap()]));
        assert_eq!(decided("012.1", 80, &allowed), one("10.0.0.1"));
        assert_eq!(decided("127.0.0.5", 1, &allowed), one("127.0.0.5"));
    }

    #[test]
    fn every_invalid_entry_is_reported() {
        let errors = AllowList::parse(&["ok.example", "https://x", "localhost"], RuleSource::Payload).unwrap_err();
        let indexes: Vec<usize> = errors.iter().map(|error| error.index).collect();
        assert_eq!(indexes, [1, 2]);
        assert!(errors[0].message.starts_with("\"https://x\" must be a host"), "{errors:?}");
    }

    #[test]
    fn each_source_accepts_only_its_kinds_of_rules() {
        use RuleSource::{Operator, Payload, Plugin};
        for (entry, may) in [
            ("a.example.com", &[Plugin, Payload, Operator][..]),
            ("*.example.com", &[Plugin, Payload, Operator]),
            ("1.1.1.1", &[Plugin, Payload, Operator]),
            ("*", &[Payload, Operator]),
            ("10.0.0.1", &[Payload, Operator]),
            ("[fd00::1]:80", &[Payload, Operator]),
            ("localhost:80", &[Payload, Operator]),
            ("127.0.0.9:80", &[Payload, Operator]),
            ("*.corp", &[Operator]),
            ("169.254.169.254:80", &[Operator]),
            ("169.254.1.1:80", &[Operator]),
            ("[fe80::1]:80", &[Operator]),
            ("192.0.2.1", &[Operator]),
            ("0.0.0.0:80", &[]),
            ("224.0.0.1:80", &[]),
            ("[::]:80", &[]),
        ] {
            for source in [Plugin, Payload, Operator] {
                let parsed = AllowList::parse(&[entry], source);
                assert_eq!(parsed.is_ok(), may.contains(&source), "{entry} {source:?}: {parsed:?}");
            }
        }
    }

    #[test]
    fn urls_in_settings_become_rules_of_the_operator() {
        let values = [
            "https://gateway.corp.example/v1",
            "http://user:secret@llm.corp.example:8080/x?y#z",
            "HTTP://127.0.0.1:18999",
            "http://[::1]:18998/v1",
            "http://10.0.0.9/v1",
            "wss://socket.example",
            "sk-ant-notaurl",
            "file:///etc/passwd",
            "ftp://x.example",
            "https://",
            "http://0.0.0.0:18997",
            "not a url://x",
        ];
        let allowed = AllowList::of_urls(values);
        let entries: Vec<String> = allowed.entries().collect();
        assert_eq!(
            entries,
            [
                "gateway.corp.example",
                "llm.corp.example:8080",
                "localhost:18999",
                "localhost:18998",
                "10.0.0.9:80",
                "socket.example",
                "localhost:18997",
            ]
        );
        assert_eq!(
            decided("gateway.corp.example", 443, &allowed),
            Ok(Route::LookUp("gateway.corp.example".to_owned(), AddressScope::Internal))
        );
    }

    #[test]
    fn duplicate_rules_are_merged() {
        let mut allowed = list(&["a.example"], RuleSource::Operator);
        allowed.extend(list(&["A.example:443", "b.example"], RuleSource::Operator));
        assert_eq!(allowed.entries().count(), 2);
    }
}
