//! Files, images, directories, the shell environment, structured output and limits.

use crate::fixture::{Fixture, SandboxedBy, Verdict, caught};
use crate::support::{cases, end_of, of_type};
use serde_json::{Value, json};

pub(super) fn shells(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let verdict = caught(|| {
        cases::shells_get_the_prelude_and_the_allowlist(agent);
        Verdict::works()
    });
    let mut harness = (agent.cli.free_shell)();
    harness["processEnv"]["APP_WORD"] = json!("from-the-payload");
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "RUN echo \"[$APP_WORD]\"", &harness);
    let has_effect = run.answer().contains("[from-the-payload]");
    verdict.and(run.check_option("/harness/processEnv", has_effect, format!("{}; {}", run.answer(), run.end())))
}

/// The CLI's own sandbox runs the commands.
pub(super) fn allowlist_by_cli(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Cli);
    let entries = json!([{ "name": "mytool", "path": "/bin/echo" }, { "name": "bash", "path": "/bin/bash" }]);
    let harness = json!({
        "cliAllowlist": { "entries": entries }, "permissions": { "sandboxMode": "workspace-write" },
    });
    let prompt = "RUN mytool allowed; cat /dev/null || echo no-cat";
    let run = fixture.run(agent, &fixture.folder(agent, "a"), prompt, &harness);
    // claude asks for an approval of an unknown program, and nobody answers.
    let refused = ["approval", "permission", "denied", "blocked"].iter().any(|word| run.answer().contains(word));
    let has_effect =
        (run.answer().contains("allowed") && run.answer().contains("no-cat")) || (!fixture.is_codex() && refused);
    run.check_option("/harness/cliAllowlist", has_effect, format!("{}; {}", run.answer(), run.end()))
}

pub(super) fn files(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let file = json!({ "name": "notes.txt", "mimeType": "text/plain", "dataUrl": "data:text/plain;base64,aGVsbG8=" });
    let harness = json!({ "files": [file], "pipedContent": "three piped words" });
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "look at these", &harness);
    let heard = run.answer();
    let has_effect = heard.contains("look at these")
        && heard.contains("three piped words")
        && heard.contains("notes.txt (text/plain): /");
    run.check_option("/harness/files", has_effect, format!("{heard}; {}", run.end()))
}

/// An image of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

pub(super) fn image(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let (mut verdict, mut session, mut before) = (Verdict::works(), None, 0);
    let folder = fixture.folder(agent, "a");
    for resumed in [false, true] {
        let image =
            json!({ "name": "dot.png", "mimeType": "image/png", "dataUrl": format!("data:image/png;base64,{PNG}") });
        let mut harness = json!({ "images": [image] });
        if let Some(session) = &session {
            harness["resumeSessionId"] = json!(session);
        }
        // For claude, the prompt names the file, and the model reads it.
        let prompt = if fixture.is_codex() { "SAY seen" } else { "READ the picture" };
        let run = fixture.run(agent, &folder, prompt, &harness);
        let sent = run.seen.last().map_or(0, |seen| seen.images);
        // The images of the first message are sent again.
        let images = sent.saturating_sub(before);
        before = sent;
        session = Some(run.session());
        let part = if resumed { "resumed" } else { "new" };
        let seen = format!("{images} images; {}; {}", run.answer(), run.end());
        verdict = verdict.and(run.check_option("/harness/images", images > 0, seen).on(part));
    }
    verdict
}

pub(super) fn directory(fixture: &Fixture<'_>) -> Verdict {
    let pointer = "/harness/additionalDirectories/0";
    let mut verdict = Verdict::works();
    for by in [SandboxedBy::Host, SandboxedBy::Cli] {
        let agent = fixture.agent(by);
        let more = agent.host.root().join("more");
        std::fs::create_dir_all(&more).unwrap();
        agent.host.run(&["grants", "add", more.to_str().unwrap()]).ok();
        let folder = fixture.folder(agent, "a");
        for (name, permissions) in [("mode", json!({ "sandboxMode": "workspace-write" })), ("no mode", json!({}))] {
            if name == "no mode" && (by == SandboxedBy::Host || !fixture.is_codex()) {
                continue;
            }
            let made = more.join(format!("made-{}", name.replace(' ', "-")));
            let harness = json!({ "additionalDirectories": [more], "permissions": permissions });
            let run = fixture.run(agent, &folder, &format!("RUN touch {}", made.display()), &harness);
            let seen = format!("nothing was made there; {}; {}", run.answer(), run.end());
            verdict = verdict.and(run.check_option(pointer, made.exists(), seen).on(&format!("{by:?}, {name}")));
        }
    }
    verdict
}

fn form() -> Value {
    json!({ "structuredOutput": { "schema": {
        "type": "object", "properties": { "answer": { "type": "integer" } },
        "required": ["answer"], "additionalProperties": false
    } } })
}

pub(super) fn structured(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let (mut verdict, mut session) = (Verdict::works(), None);
    for resumed in [false, true] {
        let mut harness = form();
        if let Some(session) = &session {
            harness["resumeSessionId"] = json!(session);
        }
        let run = fixture.run(agent, &folder, r#"JSON {"answer": 42}"#, &harness);
        session = Some(run.session());
        let found =
            of_type(&run.events, "run.structured_output").first().map(|event| event["payload"]["result"].clone());
        let part = if resumed { "resumed" } else { "new" };
        let has_effect = found == Some(json!({ "answer": 42 }));
        verdict = verdict.and(
            run.check_option("/harness/structuredOutput", has_effect, format!("{found:?}; {}", run.end())).on(part),
        );
    }
    verdict
}

/// Most requests for an answer that never matches the schema.
const MOST_REQUESTS: usize = 60;

pub(super) fn misfit(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let run = fixture.run(agent, &fixture.folder(agent, "a"), r#"MISFIT {"answer": "no"}"#, &form());
    let end = end_of(&run.events);
    let failed = end.is_some_and(|end| end["type"] == "run.failed" && end["payload"]["reason"] != "timeout");
    let requests = run.seen.len();
    run.check_option(
        "/harness/structuredOutput",
        failed && requests <= MOST_REQUESTS,
        format!("{requests} requests; {}", run.end()),
    )
}

pub(super) fn max_turns(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let mut harness = (agent.cli.free_shell)();
    harness["limits"]["maxTurns"] = json!(3);
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "LOOP true", &harness);
    let ended = end_of(&run.events).is_some_and(|end| end["payload"]["code"] == "max-turns");
    let requests = run.requests();
    run.check_restriction(
        "/harness/limits/maxTurns",
        ended && requests <= 4,
        format!("{requests} requests; {}", run.end()),
    )
}

pub(super) fn max_budget(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let mut harness = (agent.cli.free_shell)();
    harness["limits"]["maxBudgetUsd"] = json!(0.000_001);
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "LOOP true", &harness);
    let ended = end_of(&run.events).is_some_and(|end| end["payload"]["code"] == "max-budget");
    let requests = run.requests();
    run.check_restriction(
        "/harness/limits/maxBudgetUsd",
        ended && requests <= 3,
        format!("{requests} requests; {}", run.end()),
    )
}
