//! Checks the variables that a request and a plugin set for the child.

use super::names::{host_protects, is_harmless, matches, outweighs};
use super::{NativeChecks, TokenChecks, deny};
use ostler_plugin_host::Containment;
use ostler_protocol::{Finding, escape_pointer, is_of_caller, matches_name};

/// The class of a name, according to the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Allowed,
    /// It loads code, chooses a configuration or redirects requests: only the whole name in the operator's list allows it.
    Protected,
    /// No list contains it.
    Unlisted,
}

pub(super) fn check(checks: &NativeChecks<'_>, findings: &mut Vec<Finding>) {
    let names = checks.payload.harness.as_ref().into_iter().flat_map(|harness| harness.process_env.keys());
    for name in names {
        let pointer = format!("/harness/processEnv/{}", escape_pointer(name));
        if let Some(token) = checks.token.filter(|_| is_protected(checks.needs, name)) {
            findings.push(moved(name, pointer, token.provider));
            continue;
        }
        let message = match class(checks, name) {
            Class::Allowed => continue,
            Class::Protected => {
                format!(
                    "{name} chooses what code the CLI loads, which configuration it obeys or where it sends requests"
                )
            }
            Class::Unlisted => format!("{name} is not among the variables that a run may set"),
        };
        let hint =
            format!("leave it out, or let the operator add {name:?} to [policy] allow_environment in config.toml");
        findings.push(deny("environment-allowed", pointer, message, &hint));
    }
    if let Some(token) = &checks.token {
        for name in moving_of_caller(checks.needs, token) {
            findings.push(moved(name, format!("/clientEnvironment/{}", escape_pointer(name)), token.provider));
        }
    }
}

fn class(checks: &NativeChecks<'_>, name: &str) -> Class {
    let allowed = &checks.policy.allow_environment;
    if allowed.iter().any(|entry| entry == name) {
        return Class::Allowed;
    }
    if is_protected(checks.needs, name) {
        return Class::Protected;
    }
    let listed = allowed.iter().chain(&checks.needs.settable).any(|pattern| matches(pattern, name));
    if listed || is_harmless(name) { Class::Allowed } else { Class::Unlisted }
}

/// Whether the name loads code, chooses a configuration or redirects requests, according to the host or the plugin.
fn is_protected(needs: &Containment, name: &str) -> bool {
    let against = needs.code.iter().chain(&needs.endpoints).map(String::as_str);
    host_protects(name) || outweighs(against, needs.settable.iter().map(String::as_str), name)
}

/// The caller's variables that could redirect a stored token. The caller's `PATH` only locates other programs; the CLI
/// itself was looked up and evaluated before.
fn moving_of_caller<'a>(needs: &'a Containment, token: &TokenChecks<'a>) -> impl Iterator<Item = &'a String> {
    let token = *token;
    token.caller.into_iter().flatten().filter_map(move |(name, value)| {
        let taken = is_of_caller(name) || token.inherit.iter().any(|pattern| matches_name(pattern, name));
        let kept = token.configured.contains_key(name) || token.host.get(name) == Some(value);
        (taken && !kept && name != "PATH" && is_protected(needs, name)).then_some(name)
    })
}

fn moved(name: &str, pointer: String, provider: &str) -> Finding {
    let message = format!("{name} could send the stored token of {provider} elsewhere, or load code beside it");
    let hint = format!(
        "leave it out, remove the token with `clear_provider_token({provider})`, or let the operator set it in \
         [providers.{provider}] environment of config.toml"
    );
    deny("token-endpoint", pointer, message, &hint)
}

/// The variables of a plugin's launch that it may not set: those that it has not declared, and those that load code. A name
/// that the operator lists in full is allowed.
pub(crate) fn launch_variables<'n>(
    allowed: &[String],
    needs: &Containment,
    inherit: &[String],
    names: impl Iterator<Item = &'n str>,
) -> Vec<&'n str> {
    let declared = |name: &str| {
        let lists = [&needs.sets, &needs.settable, &needs.code, &needs.endpoints];
        lists.into_iter().flatten().chain(inherit).any(|pattern| matches_name(pattern, name))
    };
    // Variables for the plugin's own files and scripts have the host's prefix.
    let own = |name: &str| needs.sets.iter().any(|pattern| matches_name(pattern, name)) && name.starts_with("OSTLER_");
    let listed = |name: &str| allowed.iter().any(|entry| entry == name);
    names.filter(|name| !listed(name) && !own(name) && (!declared(name) || host_protects(name))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeMap;

    use serde_json::json;

    use ostler_schema::validate_document;

    use super::*;
    use ostler_config::{Config, PolicyConfig};
    use ostler_protocol::StartPayload;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn needs() -> Containment {
        Containment {
            settable: texts(&["CLI_MODEL", "CLI_KEY"]),
            code: texts(&["CLI_*"]),
            endpoints: texts(&["MODEL_SERVER"]),
            sets: texts(&["CLI_QUIET", "OSTLER_DOLLAR"]),
            ..Containment::default()
        }
    }

    fn payload(names: &[&str]) -> StartPayload {
        let variables: BTreeMap<&str, &str> = names.iter().map(|name| (*name, "x")).collect();
        let harness = json!({"processEnv": variables});
        validate_document::<StartPayload>(json!({"provider": "p", "prompt": "x", "cwd": "/w", "harness": harness}))
            .unwrap()
    }

    fn refused(policy: &PolicyConfig, names: &[&str], token: Option<TokenChecks<'_>>) -> Vec<(String, String)> {
        let (needs, payload) = (needs(), payload(names));
        let checks = NativeChecks { policy, needs: &needs, payload: &payload, contained: false, token };
        let found = checks.findings();
        found.into_iter().map(|finding| (finding.check, finding.pointer.unwrap())).collect()
    }

    fn builtin() -> PolicyConfig {
        Config::builtin().unwrap().policy
    }

    #[test]
    fn builtin_list_allows_usual_names_and_refuses_the_rest() {
        let allowed =
            ["DEPLOY_TOKEN", "MY_API_TOKEN", "LANG", "LC_ALL", "TZ", "CI", "NODE_ENV", "GIT_AUTHOR_NAME", "CLI_MODEL"];
        assert_eq!(refused(&builtin(), &allowed, None), []);
        let names = [
            "NODE_OPTIONS",
            "PATH",
            "LD_LIBRARY_PATH",
            "CLI_HOME",
            "CLI_TOKEN",
            "MODEL_SERVER",
            "HTTPS_PROXY",
            "NOVEL",
        ];
        let found = refused(&builtin(), &names, None);
        assert_eq!(found.len(), names.len(), "{found:?}");
        assert!(found.iter().all(|(check, _)| check == "environment-allowed"));
        assert!(found.iter().any(|(_, pointer)| pointer == "/harness/processEnv/NODE_OPTIONS"));
    }

    #[test]
    fn protected_name_needs_the_whole_name_in_the_operators_list() {
        let wide =
            PolicyConfig { allow_environment: texts(&["*_OPTIONS", "CLI_*", "LD_*"]), ..PolicyConfig::default() };
        assert_eq!(refused(&wide, &["NODE_OPTIONS", "CLI_HOME", "LD_PRELOAD", "NOVEL_OPTIONS"], None).len(), 3);
        let whole = texts(&["NODE_OPTIONS", "CLI_HOME", "LD_PRELOAD"]);
        let whole = PolicyConfig { allow_environment: whole, ..PolicyConfig::default() };
        assert_eq!(refused(&whole, &["NODE_OPTIONS", "CLI_HOME", "LD_PRELOAD"], None), []);
    }

    #[test]
    fn stored_token_refuses_redirecting_variables_even_if_the_operator_allows_them_for_payloads() {
        let policy = PolicyConfig { allow_environment: texts(&["MODEL_SERVER", "HTTPS_PROXY"]), ..builtin() };
        let host = map(&[("CLI_HOME", "/same"), ("SSL_CERT_FILE", "/host")]);
        let caller = map(&[
            ("PATH", "/elsewhere"),
            ("CLI_HOME", "/same"),
            ("CLI_KEY", "own"),
            ("MODEL_SERVER", "http://127.0.0.1:9"),
            ("SSL_CERT_FILE", "/caller"),
            ("CLI_SETTLED", "/caller"),
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("NODE_OPTIONS", "not taken"),
        ]);
        let (inherit, configured) =
            (texts(&["CLI_*", "MODEL_SERVER", "SSL_CERT_FILE"]), map(&[("CLI_SETTLED", "/operator")]));
        let token = TokenChecks {
            provider: "p",
            caller: Some(&caller),
            host: &host,
            inherit: &inherit,
            configured: &configured,
        };
        let found = refused(&policy, &["MODEL_SERVER", "HTTPS_PROXY", "CLI_MODEL", "LANG"], Some(token));
        let pointers: Vec<&str> = found.iter().map(|(_, pointer)| pointer.as_str()).collect();
        let expected = [
            "/harness/processEnv/HTTPS_PROXY",
            "/harness/processEnv/MODEL_SERVER",
            "/clientEnvironment/HTTP_PROXY",
            "/clientEnvironment/MODEL_SERVER",
            "/clientEnvironment/SSL_CERT_FILE",
        ];
        assert_eq!(pointers, expected);
        assert!(found.iter().all(|(check, _)| check == "token-endpoint"));
        assert_eq!(refused(&policy, &["MODEL_SERVER", "HTTPS_PROXY"], None), [], "without a stored token it may");
    }

    #[test]
    fn plugin_sets_only_what_it_declares_and_never_what_loads_code() {
        let inherit = texts(&["CLI_INHERITED", "HOME"]);
        let names =
            ["CLI_QUIET", "CLI_INHERITED", "OSTLER_DOLLAR", "LD_PRELOAD", "HOME", "UNDECLARED", "OSTLER_RUN_MARKER"];
        let wrong = launch_variables(&[], &needs(), &inherit, names.into_iter());
        assert_eq!(wrong, ["LD_PRELOAD", "HOME", "UNDECLARED", "OSTLER_RUN_MARKER"]);
        let greedy = Containment { sets: texts(&["LD_*"]), ..Containment::default() };
        assert_eq!(launch_variables(&[], &greedy, &[], ["LD_PRELOAD"].into_iter()), ["LD_PRELOAD"]);
        assert!(launch_variables(&texts(&["LD_PRELOAD"]), &greedy, &[], ["LD_PRELOAD"].into_iter()).is_empty());
    }
}
