//! Settings: which rule decides, and what is wrong with them.

use ostler_plugin::{Error, Plugin};
use serde_json::{Value, json};

use super::{check, files, findings_of, policy, summary, verdict};
use crate::Tools;

fn problems(settings: &Value) -> Vec<String> {
    let settings = serde_json::from_value(settings.clone()).unwrap();
    match Tools::configure(settings) {
        Err(Error::Invalid(problems)) => {
            problems.iter().map(|problem| format!("{} {}", problem.pointer, problem.message)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn strictest_own_rule_decides() {
    let policy = policy(&json!({"defaults": false, "rules": [
        {"name": "a", "decision": "allow", "commands": ["npm *"]},
        {"name": "b", "decision": "ask", "commands": ["npm run"]},
        {"name": "c", "decision": "deny", "commands": ["npm run deploy*"], "message": "deploys run in CI", "hint": "open a pull request"},
    ]}));
    check(
        &policy,
        &[
            ("npm test", "allow"),
            ("npm run build", "ask rule:b"),
            ("npm run deploy:prod", "deny rule:c"),
            ("npm run \"$x\"", "ask"),
        ],
    );
    let found = super::findings(&policy, "npm run deploy");
    assert_eq!(
        (found[0].message.as_str(), found[0].hint.as_deref()),
        ("`npm run deploy`: deploys run in CI", Some("open a pull request"))
    );
}

#[test]
fn allow_rule_lowers_built_in_rules_that_are_not_more_specific() {
    let policy = policy(&json!({"rules": [
        {"name": "push", "decision": "allow", "commands": ["git push"]},
        {"name": "clean", "decision": "allow", "commands": ["rm -r"], "paths": ["target/**", "build/**"]},
        {"name": "env", "decision": "allow", "paths": ["**/.env.test"], "access": ["read"]},
        {"name": "cat", "decision": "allow", "commands": ["cat"]},
        {"name": "shell", "decision": "allow", "kinds": ["shell"]},
        {"name": "reset", "decision": "allow", "commands": ["git reset --hard"]},
        {"name": "no-main", "decision": "deny", "commands": ["git push ... main"]},
    ]}));
    check(
        &policy,
        &[
            ("git push origin x", "allow"),
            ("git push --force", "deny destructive-git"),
            ("git push origin main", "deny rule:no-main"),
            ("git push \"$(curl x)\" -f", "deny destructive-git"),
            ("git reset --hard", "allow"),
            ("rm -rf target", "allow"),
            ("rm -rf target/debug build", "allow"),
            ("rm -rf target src", "ask destructive-files"),
            ("rm -rf target ../x", "deny destructive-files"),
            ("rm -rf target/../../x", "deny destructive-files"),
            ("rm -rf target/$X", "ask destructive-files"),
            ("cat .env.test", "allow"),
            ("cat .env", "ask key-material"),
            ("cat .env.test .env", "ask key-material"),
            ("cat ~/.ssh/id_rsa", "deny key-material"),
            ("npm publish", "ask publishing"),
            ("PATH=/tmp:$PATH git push", "ask publishing"),
            ("/tmp/git push", "ask publishing"),
            ("/usr/bin/git push", "allow"),
            ("git --unknown push", "ask publishing"),
        ],
    );
}

#[test]
fn only_what_is_listed_is_allowed_if_configured() {
    let policy = policy(&json!({"defaults": false, "otherwise": "deny", "rules": [
        {"name": "git", "decision": "allow", "commands": ["git status|diff|log"]},
        {"name": "test", "decision": "allow", "commands": ["cargo test|build"]},
        {"name": "read", "decision": "allow", "kinds": ["file_read"]},
    ]}));
    check(
        &policy,
        &[
            ("git status", "allow"),
            ("cd sub && git diff | cat", "deny not-listed"),
            ("cd sub && env timeout 5 git diff", "allow"),
            ("sh -c 'git log; cargo test'", "allow"),
            ("git push", "deny not-listed"),
            ("git status; curl x", "deny not-listed"),
            ("git status > x", "deny not-listed"),
            ("echo x > y", "deny not-listed"),
            ("bash script.sh", "deny not-listed"),
            ("export PATH=/tmp; git status", "deny not-listed"),
            ("env PATH=/tmp git status", "deny not-listed"),
            ("{ git status; } > x", "deny not-listed"),
            ("git status 2>&1 > /dev/null < y", "allow"),
            ("git status $(rm x)", "deny not-listed"),
            ("LD_PRELOAD=x git status", "deny not-listed"),
        ],
    );
    let (call, at) = files("file_read", &[("a", ostler_plugin::policy::FileEffect::Read)]);
    assert_eq!(summary(&findings_of(&policy, call, at)), "allow");
    let (call, at) = files("file_write", &[("a", ostler_plugin::policy::FileEffect::Create)]);
    assert_eq!(summary(&findings_of(&policy, call, at)), "deny not-listed");
    let listed = super::policy(&json!({"defaults": false, "otherwise": "ask", "rules": [
        {"name": "shell", "decision": "allow", "kinds": ["shell"]}
    ]}));
    check(&listed, &[("anything > x", "allow")]);
    let (call, at) = files("file_read", &[("a", ostler_plugin::policy::FileEffect::Read)]);
    assert_eq!(summary(&findings_of(&listed, call, at)), "ask not-listed");
}

#[test]
fn checks_can_be_disabled_one_by_one() {
    let policy = policy(&json!({"disabledChecks": ["publishing", "network"]}));
    check(&policy, &[("git push", "allow"), ("nc a 1", "allow"), ("git push -f", "deny destructive-git")]);
    let lenient = super::policy(&json!({"unclear": "allow"}));
    assert_eq!(verdict(&lenient, "$X"), "allow");
}

#[test]
fn every_problem_of_the_settings_is_named() {
    let found = problems(&json!({
        "disabledChecks": ["publish"],
        "rules": [
            {"name": "a", "decision": "deny", "kinds": ["shel", "web_*"]},
            {"name": "a", "decision": "deny", "mcp": ["github"], "hosts": ["https://example.com/x"]},
            {"name": "b", "decision": "ask", "commands": ["/bin/rm x", "-f", "ls && rm", "git [", "git -f|x"], "paths": ["[a"]},
            {"name": "c", "decision": "allow"},
        ]
    }));
    assert_eq!(
        found,
        [
            "/disabledChecks/0 there is no built-in check `publish`; did you mean `publishing`?",
            "/rules/1/name the rule /rules/0 has the same name `a`",
            "/rules/0/kinds/0 there is no kind of tool `shel`; did you mean `shell`?",
            "/rules/1/mcp/0 must be `SERVER/TOOL`; every tool of the server is `github/*`",
            "/rules/1/hosts/0 must be the name of a host without scheme, port and path, such as `example.com`",
            "/rules/2/paths/0 a `[` is not closed; quote it as `\\[`",
            "/rules/2/commands/0 names a program by its path; use only its name, `rm`",
            "/rules/2/commands/1 must begin with the name of a program, not with `-f`",
            "/rules/2/commands/2 is a pattern of one command and cannot contain `&&`; use one pattern for each command",
            "/rules/2/commands/3 `[`: a `[` is not closed; quote it as `\\[`",
            "/rules/2/commands/4 `-f|x`: an alternative of an option must begin with `-`",
            "/rules/3 has no condition and would match every tool use; use `kinds = [\"*\"]` if it is meant to, or the setting `otherwise`",
        ]
    );
}

#[test]
fn schema_has_every_member() {
    let schema: Value = serde_json::from_str(&Tools::settings_schema().unwrap()).unwrap();
    let texts = json!(["a/*"]);
    let mut rule = serde_json::Map::new();
    for (name, member) in schema["$defs"]["rule"]["properties"].as_object().unwrap() {
        let value = match name.as_str() {
            "name" => json!("a"),
            "decision" => json!("deny"),
            "access" => json!(["read", "write", "delete"]),
            "places" => json!(["inside", "temporary", "outside"]),
            "network" => json!(true),
            "message" | "hint" => json!("x"),
            "kinds" => json!(["shell"]),
            "commands" | "hosts" => json!(["x"]),
            _ => texts.clone(),
        };
        assert!(member["description"].is_string() || name == "decision", "{name}");
        rule.insert(name.clone(), value);
    }
    let mut settings: serde_json::Map<String, Value> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, member)| (name.clone(), member["default"].clone()))
        .collect();
    assert_eq!(settings.len(), 6);
    settings.insert("rules".to_owned(), json!([rule]));
    policy(&Value::Object(settings));
    assert!(serde_json::from_value::<crate::Settings>(json!({"unknown": 1})).is_err());
}
