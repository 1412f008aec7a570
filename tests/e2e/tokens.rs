//! Tokens of providers: where they are stored, who gets them, and that they appear nowhere else.

use crate::support::{SecretProbe, TIMEOUT, TestHost, answer, end_of, of_type, sha256, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Tokens in a file, which works everywhere, and a second provider without a token.
const IN_A_FILE: &str = "[tokens]\nstore = \"file\"\n[providers.other]\nplugin = \"rehearsal\"\n";

/// A token that no redaction rule matches.
fn token(number: u32) -> String {
    format!("plain-looking-words-of-number-{number}-and-nothing-more")
}

fn set(host: &TestHost, token: &str) -> Value {
    host.run_with_input(&["token", "set", "rehearsal", "--json"], format!("{token}\n").as_bytes()).ok().json()
}

/// Whether a child of that provider has the token, compared by its digest.
#[track_caller]
fn is_given(host: &TestHost, provider: &str, token: &str) -> bool {
    let digest = sha256(token);
    let done = host.run(&["run", provider, "RUN printf %s \"$REHEARSAL_TOKEN\" | sha256sum"]).ok();
    done.stdout.contains(&digest)
}

#[test]
fn token_is_given_to_the_child_and_masked_everywhere() {
    let mut host = TestHost::granted(IN_A_FILE);
    let (first, second) = (token(1), token(2));
    assert!(!is_given(&host, "rehearsal", &first));
    let state = set(&host, &first);
    assert_eq!(state, json!({"stored": true, "store": "file", "variable": "REHEARSAL_TOKEN"}));
    assert!(is_given(&host, "rehearsal", &first));
    assert!(!is_given(&host, "other", &first), "each provider has its own");

    // The token is masked in the output of the child, even by a host that was started after it was stored.
    let echo = ["run", "rehearsal", "RUN echo \"it is $REHEARSAL_TOKEN\"; echo \"$REHEARSAL_TOKEN\" >&2"];
    for restarted in [false, true] {
        if restarted {
            host.stop();
        }
        let done = host.run(&echo).ok();
        assert!(done.stdout.contains("it is [REDACTED:rehearsal-token]"), "{}", done.stdout);
    }
    // It is masked in the output of other providers, too.
    let output = host.run(&["run", "other", &format!("SAY {first} is it")]).ok();
    assert_eq!(output.stdout, "[REDACTED:rehearsal-token] is it\n");

    // A replaced token is not given to children any more, but is still masked.
    assert_eq!(set(&host, &second)["stored"], true);
    assert!(is_given(&host, "rehearsal", &second) && !is_given(&host, "rehearsal", &first));
    let output = host.run(&["run", "other", &format!("SAY {first} {second}")]).ok();
    assert_eq!(output.stdout.trim(), "[REDACTED:rehearsal-token] [REDACTED:rehearsal-token]");
    assert_eq!(host.run(&["token", "clear", "rehearsal", "--json"]).ok().json()["stored"], false);
    assert!(!is_given(&host, "rehearsal", &second));
    let output = host.run(&["run", "other", &format!("SAY {second}")]).ok();
    assert_eq!(output.stdout.trim(), "[REDACTED:rehearsal-token]");

    // A variable in the shell of the caller does not replace it.
    host.set("REHEARSAL_TOKEN", token(3));
    set(&host, &second);
    assert!(is_given(&host, "rehearsal", &second));

    let probe = SecretProbe::new(&[first, second]);
    host.stop();
    let kept = host.home().join("data/tokens.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    probe.assert_not_below(&host.home(), &[&kept]);
}

#[test]
fn run_whose_stored_token_is_missing_does_not_start() {
    let host = TestHost::granted(IN_A_FILE);
    set(&host, &token(1));
    fs::remove_file(host.home().join("data/tokens.json")).unwrap();
    let run = host.submit("RUN touch started", &json!({})).unwrap();
    let events = host.wait_for_end(&run);
    let end = &end_of(&events).unwrap()["payload"];
    assert!(of_type(&events, "run.started").is_empty() && !host.work().join("started").exists(), "{events:#?}");
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("no longer in its store"), "{end}");
    assert!(end["hint"].as_str().unwrap().contains("save_provider_token(rehearsal)"), "{end}");
    let state = host.run(&["token", "status", "--json"]).ok().json();
    assert_eq!((&state["rehearsal"]["stored"], &state["other"]["stored"]), (&json!(false), &json!(false)));
    assert!(state["rehearsal"]["problem"].is_string() && state["other"]["problem"].is_null(), "{state}");

    // Clearing the token and setting it again both work.
    host.run(&["token", "clear", "rehearsal"]).ok();
    assert!(answer(&host.wait_for_end(&host.submit("SAY again", &json!({})).unwrap())).contains("again"));
    set(&host, &token(1));
    assert!(is_given(&host, "rehearsal", &token(1)));
}

#[test]
fn invalid_token_is_refused_and_not_stored() {
    let host = TestHost::granted(IN_A_FILE);
    for (text, what) in [
        (String::new(), "is empty"),
        (" \t".to_owned(), "is empty"),
        ("two\nlines".to_owned(), "control character"),
        ("x".repeat(16 * 1024 + 1), "longer than 16 KiB"),
    ] {
        let refused = host.call("save_provider_token", &json!({"provider": "rehearsal", "token": text})).unwrap_err();
        assert_eq!(refused.data()["problems"][0]["pointer"], "/token", "{}", refused.text());
        assert!(refused.text().contains(what), "{what}: {}", refused.text());
        let done = host.run_with_input(&["token", "set", "rehearsal"], text.as_bytes());
        assert!(done.code != 0 && !done.stderr.is_empty(), "{}", done.all());
    }
    host.run_with_input(&["token", "set", "nobody"], b"x").code(5);
    let without = host.call("save_provider_token", &json!({"provider": "command", "token": "x"})).unwrap_err();
    assert_eq!(without.kind(), "NOT_FOUND", "{}", without.text());
    assert_eq!(host.call("has_provider_token", &json!({"provider": "rehearsal"})).unwrap()["stored"], false);
    assert!(!host.home().join("data/tokens.json").exists());
}

/// Without configuration, the token is stored in a keyring, or the command fails with a hint; never in plain text.
#[test]
fn token_is_not_stored_in_plain_text_by_default() {
    let host = TestHost::granted("");
    let first = token(1);
    let done = host.run_with_input(&["token", "set", "rehearsal"], first.as_bytes());
    let store = host.call("get_status", &json!({})).unwrap()["tokenStore"].as_str().unwrap().to_owned();
    if done.code == 0 {
        assert!(store.starts_with("keyutils") || store.starts_with("secret-service"), "{store}");
        assert!(is_given(&host, "rehearsal", &first));
        host.stop();
        assert!(is_given(&host, "rehearsal", &first), "the token was lost with the host");
        let output = host.run(&["run", "rehearsal", &format!("SAY {first}")]).ok();
        assert_eq!(output.stdout.trim(), "[REDACTED:rehearsal-token]");
        host.run(&["token", "clear", "rehearsal"]).ok();
    } else {
        assert!(store.starts_with("none"), "{store}");
        assert!(done.stderr.contains("[tokens] store"), "{}", done.stderr);
    }
    host.stop();
    SecretProbe::new(&[first]).assert_not_below(&host.home(), &[]);
    // Nothing is left in the keyring of the kernel, if it can be read. The kernel removes deleted keys a little later.
    let home = host.home().display().to_string();
    wait_until("the end of the key", TIMEOUT, || {
        let left = fs::read_to_string("/proc/keys").unwrap_or_default();
        (!left.contains(&home)).then_some(())
    });
}
