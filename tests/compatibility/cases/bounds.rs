//! What the agent may do, by effect.

use super::plant;
use crate::scene::{Held, Scene, Told, Verdict};
use crate::support::Studio;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

const MODE: &str = "/harness/permissions/sandboxMode";
const NETWORK: &str = "/harness/permissions/networkAccess";

fn permissions(permissions: &Value) -> Value {
    json!({ "permissions": permissions })
}

/// By shell and by redirection, new and resumed; on a session that was begun with more rights, too.
fn reads_only(scene: &Scene<'_>, held: Held) -> Verdict {
    let studio = scene.studio(held);
    let mut verdict = Verdict::works();
    for resumed in [false, true] {
        let commands = [("echo", "echo x > made"), ("touch", "touch made"), ("sh", "sh -c 'echo x > made'")];
        for (name, command) in commands.into_iter().take(if resumed { 1 } else { commands.len() }) {
            let folder = scene.folder(studio, &format!("{name}-{resumed}"));
            let mut harness = permissions(&json!({ "sandboxMode": "read-only" }));
            if resumed {
                let first =
                    scene.run(studio, &folder, "SAY begun", &permissions(&json!({ "sandboxMode": "workspace-write" })));
                harness["resumeSessionId"] = json!(first.session());
            }
            let told = scene.run(studio, &folder, &format!("RUN {command}"), &harness);
            let part = if resumed { "resumed" } else { "new" };
            let seen = format!("`{command}` wrote a file; {}", told.end());
            verdict = verdict.and(told.restricted(MODE, !folder.join("made").exists(), seen).on(part));
            verdict = verdict.and(asked(&told));
        }
    }
    verdict
}

/// The model was asked: what was not written was not left out because nothing ran.
fn asked(told: &Told) -> Verdict {
    Verdict::that(told.refused.is_some() || !told.seen.is_empty(), format!("the model was never asked; {}", told.end()))
}

pub(super) fn read_only(scene: &Scene<'_>) -> Verdict {
    reads_only(scene, Held::ByHost)
}

pub(super) fn read_only_by_cli(scene: &Scene<'_>) -> Verdict {
    reads_only(scene, Held::ByCli)
}

/// Inside of the folder yes, outside of it no.
fn writes_inside(scene: &Scene<'_>, held: Held) -> Verdict {
    let studio = scene.studio(held);
    let mut verdict = Verdict::works();
    for resumed in [false, true] {
        let folder = scene.folder(studio, &format!("inside-{resumed}"));
        let outside = studio.bed.root().join(format!("outside-{}", folder.file_name().unwrap().to_string_lossy()));
        let mut harness = permissions(&json!({ "sandboxMode": "workspace-write" }));
        if resumed {
            let first = permissions(&json!({ "sandboxMode": "read-only" }));
            harness["resumeSessionId"] = json!(scene.run(studio, &folder, "SAY begun", &first).session());
        }
        let told = scene.run(studio, &folder, "RUN touch made", &harness);
        let part = if resumed { "resumed" } else { "new" };
        let seen = format!("nothing was made inside; {}; {}", told.answer(), told.end());
        verdict = verdict.and(told.asked(MODE, folder.join("made").exists(), seen).on(part));
        let told = scene.run(studio, &folder, &format!("RUN touch {}", outside.display()), &harness);
        verdict = verdict.and(told.restricted(MODE, !outside.exists(), "a file was made outside").on(part));
        let _ = fs::remove_file(outside);
    }
    verdict
}

pub(super) fn workspace_write(scene: &Scene<'_>) -> Verdict {
    writes_inside(scene, Held::ByHost)
}

pub(super) fn workspace_write_by_cli(scene: &Scene<'_>) -> Verdict {
    writes_inside(scene, Held::ByCli)
}

/// Whatever the user's own settings allow.
pub(super) fn nothing_approved(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByCli);
    let folder = scene.folder(studio, "a");
    let outside = studio.bed.root().join("outside-unapproved");
    let (file, before) = generous_settings(scene, studio);
    let told = scene.run(
        studio,
        &folder,
        &format!("RUN touch {}", outside.display()),
        &permissions(&json!({ "autoApprove": false })),
    );
    match before {
        Some(before) => fs::write(file, before).unwrap(),
        None => fs::remove_file(file).unwrap(),
    }
    told.restricted("/harness/permissions/autoApprove", !outside.exists(), "a file was made outside of the folder")
        .and(asked(&told))
}

/// Gives the user settings that ask about nothing; the file, and what was in it before.
fn generous_settings(scene: &Scene<'_>, studio: &Studio) -> (PathBuf, Option<String>) {
    let own = studio.own_folder();
    if scene.is_codex() {
        let file = own.join("config.toml");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("sandbox_mode = \"danger-full-access\"\n{config}")).unwrap();
        return (file, Some(config));
    }
    let file = own.join("settings.json");
    let before = fs::read_to_string(&file).ok();
    fs::write(&file, json!({ "permissions": { "allow": ["Bash"] } }).to_string()).unwrap();
    (file, before)
}

/// A run that asks for nothing has the host's default: its folder and no more; and the CLI does not decide by a model.
pub(super) fn no_mode(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let outside = studio.bed.root().join("outside-no-mode");
    let told = scene.run(studio, &folder, &format!("RUN touch {}", outside.display()), &json!({}));
    let verdict = told.restricted(MODE, !outside.exists(), "a file was made outside").and(asked(&told));
    if scene.is_codex() {
        return verdict;
    }
    // Nobody has approved anything, so claude refuses what it would ask about.
    let told = scene.run(studio, &folder, "RUN touch made", &json!({}));
    verdict.and(told.restricted(MODE, !folder.join("made").exists(), "a command ran that nobody has approved"))
}

/// A listener on loopback that counts who comes.
fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut stream) = stream {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        }
    });
    (port, count)
}

pub(super) fn no_network(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let (mut verdict, mut session) = (Verdict::works(), None);
    let folder = scene.folder(studio, "a");
    for resumed in [false, true] {
        let (port, count) = listener();
        let command = format!("python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\"");
        let mut harness = (studio.cli.free_shell)();
        harness["permissions"]["networkAccess"] = json!(false);
        if let Some(session) = &session {
            harness["resumeSessionId"] = json!(session);
        }
        let told = scene.run(studio, &folder, &format!("RUN {command}"), &harness);
        session = Some(told.session());
        let part = if resumed { "resumed" } else { "new" };
        verdict = verdict.and(
            told.restricted(NETWORK, count.load(Ordering::SeqCst) == 0, "the shell reached the listener").on(part),
        );
        let searches = told
            .tools()
            .iter()
            .any(|name| ["web_search", "web_search_preview", "WebSearch", "WebFetch"].contains(&name.as_str()));
        verdict = verdict.and(told.restricted(NETWORK, !searches, "web search is offered").on(part)).and(asked(&told));
    }
    verdict
}

/// The payload names the server, so that it may be asked; that this is network is said.
pub(super) fn no_network_with_http_server(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let (port, count) = listener();
    let servers = json!([{ "name": "remote", "url": format!("http://127.0.0.1:{port}/mcp") }]);
    let harness = json!({ "permissions": { "networkAccess": false }, "mcp": { "servers": servers } });
    let told = scene.run(studio, &scene.folder(studio, "a"), "SAY fine", &harness);
    let reached = count.load(Ordering::SeqCst);
    let warned = told.warned_at("/harness/mcp/servers/0").is_some();
    told.asked("/harness/mcp/servers/0", reached == 0 || warned, "the server is called, without a word")
}

fn foreign(scene: &Scene<'_>, held: Held) -> Verdict {
    let studio = scene.studio(held);
    let mut verdict = Verdict::works();
    for (index, mode) in [json!({}), json!({ "sandboxMode": "read-only" })].into_iter().enumerate() {
        let folder = scene.folder(studio, &index.to_string());
        let proof = folder.join("proof");
        fs::create_dir(&proof).unwrap();
        plant(scene, studio, &folder, &proof);
        let told = scene.run(studio, &folder, "SAY explained", &permissions(&mode));
        let ran: Vec<String> = fs::read_dir(&proof)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let seen = format!("{mode}: what ran: {}", ran.join(" "));
        // Inside of the host's sandbox a warning is enough.
        verdict = verdict.and(match held {
            Held::ByHost => told.asked("/cwd", ran.is_empty(), seen),
            Held::ByCli => told.restricted("/cwd", ran.is_empty(), seen),
        });
        verdict = verdict.and(told.asked("/cwd", told.answer() == "explained", told.end()));
        // Rules of the project do not let a command through, either.
        if mode["sandboxMode"] == "read-only" {
            let shell = scene.run(studio, &folder, "RUN touch proof/shell", &permissions(&mode));
            verdict = verdict.and(shell.restricted(
                MODE,
                !proof.join("shell").exists(),
                "a rule of the project let a command through",
            ));
        }
    }
    verdict
}

pub(super) fn foreign_project(scene: &Scene<'_>) -> Verdict {
    foreign(scene, Held::ByHost)
}

pub(super) fn foreign_project_by_cli(scene: &Scene<'_>) -> Verdict {
    foreign(scene, Held::ByCli)
}

/// A prompt for later is a file in the project.
pub(super) fn scheduled_prompt(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByCli);
    let folder = scene.folder(studio, "a");
    let input = json!({ "cron": "7 * * * *", "prompt": "SAY later", "durable": true, "recurring": true });
    let told = scene.run(
        studio,
        &folder,
        &format!("TOOL CronCreate {input}"),
        &permissions(&json!({ "sandboxMode": "read-only" })),
    );
    let left = files_below(&folder);
    told.restricted(MODE, left.is_empty(), format!("left in the project: {}", left.join(" ")))
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}
