//! How runs end.

use crate::scene::{Held, Scene, Verdict, caught};
use crate::support::{PATIENCE, cases, end_of, of_type};
use serde_json::json;
use std::fs;

fn shared(check: impl FnOnce()) -> Verdict {
    caught(|| {
        check();
        Verdict::works()
    })
}

pub(super) fn refused_login(scene: &Scene<'_>) -> Verdict {
    shared(|| cases::a_refused_login(scene.studio(Held::ByHost)))
}

pub(super) fn too_many_requests(scene: &Scene<'_>) -> Verdict {
    shared(|| cases::too_many_requests(scene.studio(Held::ByHost)))
}

pub(super) fn cancel_in_stream(scene: &Scene<'_>) -> Verdict {
    shared(|| cases::a_cancel_in_the_stream(scene.studio(Held::ByHost)))
}

pub(super) fn cancel_in_tool(scene: &Scene<'_>) -> Verdict {
    shared(|| cases::a_cancel_in_a_tool(scene.studio(Held::ByHost)))
}

/// The turn is the run's end, whatever it leaves running.
pub(super) fn background(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let input = json!({ "command": "tail -f /dev/null", "description": "work", "run_in_background": true });
    let told = scene.run(studio, &scene.folder(studio, "a"), &format!("TOOL Bash {input}"), &(studio.cli.free_shell)());
    let verdict = told.asked("/prompt", told.completed(), told.end());
    let left = caught(|| {
        studio.bed.assert_nothing_runs(PATIENCE);
        Verdict::works()
    });
    verdict.and(left)
}

/// The message says what is wrong and where.
pub(super) fn broken_configuration(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let first = scene.run(studio, &folder, "SAY fine", &json!({}));
    if first.refused.is_some() {
        return first.asked("/prompt", false, "");
    }
    let file = studio.own_folder().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}\nthis is = no TOML [\n")).unwrap();
    let told = scene.run(studio, &folder, "SAY never", &json!({}));
    fs::write(&file, config).unwrap();
    let message = told.end();
    let failed = told.refused.is_some() || end_of(&told.events).is_some_and(|end| end["type"] == "run.failed");
    let retried = of_type(&told.events, "run.started").len() > 1;
    let named = message.contains("config.toml") || message.contains("configuration");
    Verdict::that(failed && named && !retried, message)
}
