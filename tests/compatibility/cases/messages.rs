//! Messages and sessions.

use crate::scene::{Held, Scene, State, Told, Verdict};
use crate::support::{answer, of_type, semantics};
use serde_json::json;

const RESUME: &str = "/harness/resumeSessionId";

pub(super) fn detection(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let found = scene.capabilities(studio, true);
    let reasons = || found["reasons"].to_string();
    let version = found["cliVersion"].as_str().unwrap_or_default();
    if version != scene.release.version {
        return Verdict::wrong(format!("the version is taken for {version:?}: {}", reasons()));
    }
    match found["support"].as_str() {
        Some("supported") => Verdict::works(),
        Some("degraded") => Verdict::new(State::Degraded, reasons()),
        Some("blocked") => Verdict::new(State::Blocked, reasons()),
        _ => Verdict::wrong(found.to_string()),
    }
}

pub(super) fn plain(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let told = scene.run(studio, &scene.folder(studio, "a"), "SAY hello from the script", &json!({}));
    told.asked("/prompt", told.answer() == "hello from the script", told.end())
}

pub(super) fn deltas(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let told = scene.run(studio, &scene.folder(studio, "a"), "SAY one two three", &json!({}));
    if told.refused.is_some() {
        return told.asked("/prompt", false, "");
    }
    let text: String =
        semantics(&told.events, "text_delta").iter().filter_map(|delta| delta["text"].as_str()).collect();
    let claims = scene.claims(studio, "text-deltas");
    match (claims, text == "one two three") {
        (true, holds) => Verdict::that(holds, format!("the deltas are {text:?}")),
        (false, false) => {
            Verdict::new(State::Degraded, "the CLI has no deltas, and `text-deltas` is not among its features")
        }
        (false, true) => Verdict::wrong("there are deltas, and `text-deltas` is not among the features"),
    }
}

pub(super) fn dashed(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let flag = studio.cli.dangerous_flag;
    let told = scene.run(studio, &scene.folder(studio, "a"), flag, &json!({}));
    told.asked("/prompt", told.answer() == flag, told.end())
}

/// What a person sees is the answer, once.
pub(super) fn broken_stream(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let harness = json!({ "limits": { "timeoutMs": 45_000 } });
    let file = studio.payload("CUT", &json!({ "cwd": folder, "harness": harness }));
    let done = studio.bed.run(&["run", "--payload", file.to_str().unwrap()]);
    if done.code != 0 {
        // It has failed, and says so.
        return Verdict::that(!done.stderr.is_empty(), "it fails without a word");
    }
    let runs = studio.bed.call("list_runs", &json!({ "limit": 1 })).unwrap();
    let run = runs["items"][0]["runId"].as_str().unwrap_or_default().to_owned();
    let events = studio.bed.story(&run);
    let whole = answer(&events);
    if done.stdout.trim_end() == whole.trim_end() {
        return Verdict::works();
    }
    let warned = done.stderr.lines().find(|line| line.contains("broke off"));
    warned.map_or_else(
        || Verdict::wrong(format!("standard output is {:?}, the answer is {whole:?}", done.stdout)),
        |line| Verdict::new(State::Degraded, line),
    )
}

pub(super) fn model(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let more = |name: &str| json!({ "model": name });
    let first = scene.run_with(studio, &folder, "MODEL", &json!({}), &more("first-model"));
    let verdict = first.asked("/model", first.answer() == "first-model", first.answer());
    let resumed = json!({ "resumeSessionId": first.session() });
    let second = scene.run_with(studio, &folder, "MODEL", &resumed, &more("second-model"));
    verdict.and(second.asked("/model", second.answer() == "second-model", second.answer()).on("resumed"))
}

const FIRST: &str = "Mind the gap between the words.";
const SECOND: &str = "Stand clear of the closing doors.";

fn instructed(scene: &Scene<'_>, field: &str, replaces: bool) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let told = scene.run(studio, &folder, "SYSTEM", &json!({ field: FIRST }));
    let pointer = format!("/harness/{field}");
    let heard = told.answer();
    // Much of what the CLI itself would say is gone, or is still there.
    let (own, of_it) = (scene.own_system_prompt().len(), heard.len());
    let fits = if replaces { of_it < own } else { of_it >= own };
    told.asked(&pointer, heard.contains(FIRST) && fits, format!("the system prompt is {}", brief(heard)))
}

fn instructed_again(scene: &Scene<'_>, field: &str) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let first = scene.run(studio, &folder, "SYSTEM", &json!({ field: FIRST }));
    let again = json!({ "resumeSessionId": first.session(), field: SECOND });
    let told = scene.run(studio, &folder, "SYSTEM", &again);
    let heard = told.answer();
    let holds = heard.contains(SECOND) && !heard.contains(FIRST);
    told.asked(&format!("/harness/{field}"), holds, format!("the system prompt is {}", brief(heard)))
}

fn brief(text: &str) -> String {
    let at = |part: &str| if text.contains(part) { "holds" } else { "lacks" };
    format!("of {} bytes, {} the first text and {} the second", text.len(), at(FIRST), at(SECOND))
}

pub(super) fn system_prompt(scene: &Scene<'_>) -> Verdict {
    instructed(scene, "systemPrompt", true)
}

pub(super) fn system_prompt_resumed(scene: &Scene<'_>) -> Verdict {
    instructed_again(scene, "systemPrompt")
}

pub(super) fn appended_prompt(scene: &Scene<'_>) -> Verdict {
    instructed(scene, "appendSystemPrompt", false)
}

pub(super) fn appended_prompt_resumed(scene: &Scene<'_>) -> Verdict {
    instructed_again(scene, "appendSystemPrompt")
}

pub(super) fn resume(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let first = scene.run(studio, &folder, "TURNS", &json!({}));
    let second = scene.run(studio, &folder, "TURNS", &json!({ "resumeSessionId": first.session() }));
    let seen = format!("{} turns, {}, {}", second.answer(), second.origin(), second.end());
    let holds = second.answer() == "2" && second.origin() == "resumed" && second.session() == first.session();
    second.asked(RESUME, holds, seen)
}

pub(super) fn invalid_resume(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let absent = json!({ "resumeSessionId": studio.cli.absent_session });
    let told = scene.run(studio, &scene.folder(studio, "a"), "SAY anew", &absent);
    let starts = of_type(&told.events, "run.started").len();
    // The CLI fails and is started once more, or begins another session by itself, which is told.
    let holds = told.answer() == "anew" && (starts == 2 || (starts == 1 && told.origin() == "replaced"));
    told.asked(RESUME, holds, format!("{starts} starts, {}, {}", told.origin(), told.end()))
}

/// The newest session of the folder goes on, not that of another; where there is none, a new one begins and is told so.
pub(super) fn continued(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let (here, elsewhere, empty) =
        (scene.folder(studio, "here"), scene.folder(studio, "elsewhere"), scene.folder(studio, "empty"));
    let pointer = "/harness/continueSession";
    let continues = json!({ "continueSession": true });
    let first = scene.run(studio, &here, "TURNS", &json!({}));
    scene.run(studio, &elsewhere, "TURNS", &json!({}));
    let second = scene.run(studio, &here, "TURNS", &continues);
    let about = |told: &Told| format!("{} turns, {}, {}", told.answer(), told.origin(), told.end());
    let holds = second.answer() == "2" && second.session() == first.session() && second.origin() == "resumed";
    let verdict = second.asked(pointer, holds, about(&second)).on("another folder's session is newer");
    let verdict = match verdict.state {
        // The event of the session and a warning say so.
        State::Wrong if second.origin() == "replaced" => Verdict::new(
            State::Degraded,
            "the CLI does not find the session of an earlier run; the run says that another was begun",
        ),
        _ => verdict,
    };
    let third = scene.run(studio, &empty, "TURNS", &continues);
    let anew = third.answer() == "1" && third.origin() != "resumed";
    verdict.and(third.asked(pointer, anew, about(&third)).on("no session in the folder"))
}
