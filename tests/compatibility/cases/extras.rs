//! What goes beside the prompt, and what comes beside the answer.

use crate::scene::{Held, Scene, Verdict, caught};
use crate::support::{cases, end_of, of_type};
use serde_json::{Value, json};

pub(super) fn shells(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let verdict = caught(|| {
        cases::shells_as_the_host_lays_them_out(studio);
        Verdict::works()
    });
    let mut harness = (studio.cli.free_shell)();
    harness["processEnv"]["APP_WORD"] = json!("from-the-payload");
    let told = scene.run(studio, &scene.folder(studio, "a"), "RUN echo \"[$APP_WORD]\"", &harness);
    let holds = told.answer().contains("[from-the-payload]");
    verdict.and(told.asked("/harness/processEnv", holds, format!("{}; {}", told.answer(), told.end())))
}

/// Where the CLI's own sandbox runs the commands.
pub(super) fn allowlist_by_cli(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByCli);
    let entries = json!([{ "name": "mytool", "path": "/bin/echo" }, { "name": "bash", "path": "/bin/bash" }]);
    let harness = json!({
        "cliAllowlist": { "entries": entries }, "permissions": { "sandboxMode": "workspace-write" },
    });
    let prompt = "RUN mytool allowed; cat /dev/null || echo no-cat";
    let told = scene.run(studio, &scene.folder(studio, "a"), prompt, &harness);
    // claude asks about a program that it does not know, and nobody answers.
    let refused = ["approval", "permission", "denied", "blocked"].iter().any(|word| told.answer().contains(word));
    let holds =
        (told.answer().contains("allowed") && told.answer().contains("no-cat")) || (!scene.is_codex() && refused);
    told.asked("/harness/cliAllowlist", holds, format!("{}; {}", told.answer(), told.end()))
}

pub(super) fn files(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let file = json!({ "name": "notes.txt", "mimeType": "text/plain", "dataUrl": "data:text/plain;base64,aGVsbG8=" });
    let harness = json!({ "files": [file], "pipedContent": "three piped words" });
    let told = scene.run(studio, &scene.folder(studio, "a"), "look at these", &harness);
    let heard = told.answer();
    let holds = heard.contains("look at these")
        && heard.contains("three piped words")
        && heard.contains("notes.txt (text/plain): /");
    told.asked("/harness/files", holds, format!("{heard}; {}", told.end()))
}

/// A picture of one point.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

pub(super) fn image(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let (mut verdict, mut session, mut before) = (Verdict::works(), None, 0);
    let folder = scene.folder(studio, "a");
    for resumed in [false, true] {
        let image =
            json!({ "name": "dot.png", "mimeType": "image/png", "dataUrl": format!("data:image/png;base64,{PNG}") });
        let mut harness = json!({ "images": [image] });
        if let Some(session) = &session {
            harness["resumeSessionId"] = json!(session);
        }
        // claude names the picture in the prompt, and the model reads it.
        let prompt = if scene.is_codex() { "SAY seen" } else { "READ the picture" };
        let told = scene.run(studio, &folder, prompt, &harness);
        let sent = told.seen.last().map_or(0, |seen| seen.images);
        // Those of the first message are sent again.
        let images = sent.saturating_sub(before);
        before = sent;
        session = Some(told.session());
        let part = if resumed { "resumed" } else { "new" };
        let seen = format!("{images} images; {}; {}", told.answer(), told.end());
        verdict = verdict.and(told.asked("/harness/images", images > 0, seen).on(part));
    }
    verdict
}

pub(super) fn directory(scene: &Scene<'_>) -> Verdict {
    let pointer = "/harness/additionalDirectories/0";
    let mut verdict = Verdict::works();
    for held in [Held::ByHost, Held::ByCli] {
        let studio = scene.studio(held);
        let more = studio.bed.root().join("more");
        std::fs::create_dir_all(&more).unwrap();
        studio.bed.run(&["grants", "add", more.to_str().unwrap()]).ok();
        let folder = scene.folder(studio, "a");
        for (name, permissions) in [("mode", json!({ "sandboxMode": "workspace-write" })), ("no mode", json!({}))] {
            if name == "no mode" && (held == Held::ByHost || !scene.is_codex()) {
                continue;
            }
            let made = more.join(format!("made-{}", name.replace(' ', "-")));
            let harness = json!({ "additionalDirectories": [more], "permissions": permissions });
            let told = scene.run(studio, &folder, &format!("RUN touch {}", made.display()), &harness);
            let seen = format!("nothing was made there; {}; {}", told.answer(), told.end());
            verdict = verdict.and(told.asked(pointer, made.exists(), seen).on(&format!("{held:?}, {name}")));
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

pub(super) fn structured(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let (mut verdict, mut session) = (Verdict::works(), None);
    for resumed in [false, true] {
        let mut harness = form();
        if let Some(session) = &session {
            harness["resumeSessionId"] = json!(session);
        }
        let told = scene.run(studio, &folder, r#"JSON {"answer": 42}"#, &harness);
        session = Some(told.session());
        let found =
            of_type(&told.events, "run.structured_output").first().map(|event| event["payload"]["result"].clone());
        let part = if resumed { "resumed" } else { "new" };
        let holds = found == Some(json!({ "answer": 42 }));
        verdict =
            verdict.and(told.asked("/harness/structuredOutput", holds, format!("{found:?}; {}", told.end())).on(part));
    }
    verdict
}

/// Most requests for an answer that never fits.
const MOST_REQUESTS: usize = 60;

pub(super) fn misfit(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let told = scene.run(studio, &scene.folder(studio, "a"), r#"MISFIT {"answer": "no"}"#, &form());
    let end = end_of(&told.events);
    let failed = end.is_some_and(|end| end["type"] == "run.failed" && end["payload"]["reason"] != "timeout");
    let requests = told.seen.len();
    told.asked(
        "/harness/structuredOutput",
        failed && requests <= MOST_REQUESTS,
        format!("{requests} requests; {}", told.end()),
    )
}

pub(super) fn max_turns(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let mut harness = (studio.cli.free_shell)();
    harness["limits"]["maxTurns"] = json!(3);
    let told = scene.run(studio, &scene.folder(studio, "a"), "LOOP true", &harness);
    let ended = end_of(&told.events).is_some_and(|end| end["payload"]["code"] == "max-turns");
    let requests = told.requests();
    told.restricted("/harness/limits/maxTurns", ended && requests <= 4, format!("{requests} requests; {}", told.end()))
}

pub(super) fn max_budget(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let mut harness = (studio.cli.free_shell)();
    harness["limits"]["maxBudgetUsd"] = json!(0.000_001);
    let told = scene.run(studio, &scene.folder(studio, "a"), "LOOP true", &harness);
    let ended = end_of(&told.events).is_some_and(|end| end["payload"]["code"] == "max-budget");
    let requests = told.requests();
    told.restricted(
        "/harness/limits/maxBudgetUsd",
        ended && requests <= 3,
        format!("{requests} requests; {}", told.end()),
    )
}
