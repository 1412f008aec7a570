//! Permissions, checked by their effect.

use super::plant;
use crate::fixture::{Fixture, RunReport, SandboxedBy, Verdict};
use crate::support::AgentFixture;
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

/// Commands and redirections, in a new session and in one that was started with more permissions.
fn reads_only(fixture: &Fixture<'_>, by: SandboxedBy) -> Verdict {
    let agent = fixture.agent(by);
    let mut verdict = Verdict::works();
    for resumed in [false, true] {
        let commands = [("echo", "echo x > made"), ("touch", "touch made"), ("sh", "sh -c 'echo x > made'")];
        for (name, command) in commands.into_iter().take(if resumed { 1 } else { commands.len() }) {
            let folder = fixture.folder(agent, &format!("{name}-{resumed}"));
            let mut harness = permissions(&json!({ "sandboxMode": "read-only" }));
            if resumed {
                let first = fixture.run(
                    agent,
                    &folder,
                    "SAY begun",
                    &permissions(&json!({ "sandboxMode": "workspace-write" })),
                );
                harness["resumeSessionId"] = json!(first.session());
            }
            let run = fixture.run(agent, &folder, &format!("RUN {command}"), &harness);
            let part = if resumed { "resumed" } else { "new" };
            let seen = format!("`{command}` wrote a file; {}", run.end());
            verdict = verdict.and(run.check_restriction(MODE, !folder.join("made").exists(), seen).on(part));
            verdict = verdict.and(model_was_asked(&run));
        }
    }
    verdict
}

/// Requires a request to the model: otherwise a missing file proves nothing.
fn model_was_asked(run: &RunReport) -> Verdict {
    Verdict::that(run.refused.is_some() || !run.seen.is_empty(), format!("the model was never asked; {}", run.end()))
}

pub(super) fn read_only(fixture: &Fixture<'_>) -> Verdict {
    reads_only(fixture, SandboxedBy::Host)
}

pub(super) fn read_only_by_cli(fixture: &Fixture<'_>) -> Verdict {
    reads_only(fixture, SandboxedBy::Cli)
}

/// Files can be written inside the folder and not outside.
fn writes_inside(fixture: &Fixture<'_>, by: SandboxedBy) -> Verdict {
    let agent = fixture.agent(by);
    let mut verdict = Verdict::works();
    for resumed in [false, true] {
        let folder = fixture.folder(agent, &format!("inside-{resumed}"));
        let outside = agent.host.root().join(format!("outside-{}", folder.file_name().unwrap().to_string_lossy()));
        let mut harness = permissions(&json!({ "sandboxMode": "workspace-write" }));
        if resumed {
            let first = permissions(&json!({ "sandboxMode": "read-only" }));
            harness["resumeSessionId"] = json!(fixture.run(agent, &folder, "SAY begun", &first).session());
        }
        let run = fixture.run(agent, &folder, "RUN touch made", &harness);
        let part = if resumed { "resumed" } else { "new" };
        let seen = format!("nothing was made inside; {}; {}", run.answer(), run.end());
        verdict = verdict.and(run.check_option(MODE, folder.join("made").exists(), seen).on(part));
        let run = fixture.run(agent, &folder, &format!("RUN touch {}", outside.display()), &harness);
        verdict = verdict.and(run.check_restriction(MODE, !outside.exists(), "a file was made outside").on(part));
        let _ = fs::remove_file(outside);
    }
    verdict
}

pub(super) fn workspace_write(fixture: &Fixture<'_>) -> Verdict {
    writes_inside(fixture, SandboxedBy::Host)
}

pub(super) fn workspace_write_by_cli(fixture: &Fixture<'_>) -> Verdict {
    writes_inside(fixture, SandboxedBy::Cli)
}

/// No command is approved although the settings of the user allow everything.
pub(super) fn nothing_approved(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Cli);
    let folder = fixture.folder(agent, "a");
    let outside = agent.host.root().join("outside-unapproved");
    let (file, before) = generous_settings(fixture, agent);
    let run = fixture.run(
        agent,
        &folder,
        &format!("RUN touch {}", outside.display()),
        &permissions(&json!({ "autoApprove": false })),
    );
    match before {
        Some(before) => fs::write(file, before).unwrap(),
        None => fs::remove_file(file).unwrap(),
    }
    run.check_restriction(
        "/harness/permissions/autoApprove",
        !outside.exists(),
        "a file was made outside of the folder",
    )
    .and(model_was_asked(&run))
}

/// Writes user settings that allow everything. Returns the file and its previous contents.
fn generous_settings(fixture: &Fixture<'_>, agent: &AgentFixture) -> (PathBuf, Option<String>) {
    let own = agent.own_folder();
    if fixture.is_codex() {
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

/// A run without a mode has the default of the host, its own folder, and no model approves commands.
pub(super) fn no_mode(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let outside = agent.host.root().join("outside-no-mode");
    let run = fixture.run(agent, &folder, &format!("RUN touch {}", outside.display()), &json!({}));
    let verdict = run.check_restriction(MODE, !outside.exists(), "a file was made outside").and(model_was_asked(&run));
    if fixture.is_codex() {
        return verdict;
    }
    // claude refuses commands that need an approval.
    let run = fixture.run(agent, &folder, "RUN touch made", &json!({}));
    verdict.and(run.check_restriction(MODE, !folder.join("made").exists(), "a command ran that nobody has approved"))
}

/// A listener on loopback that counts connections.
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

pub(super) fn no_network(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let (mut verdict, mut session) = (Verdict::works(), None);
    let folder = fixture.folder(agent, "a");
    for resumed in [false, true] {
        let (port, count) = listener();
        let command = format!("python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\"");
        let mut harness = (agent.cli.free_shell)();
        harness["permissions"]["networkAccess"] = json!(false);
        if let Some(session) = &session {
            harness["resumeSessionId"] = json!(session);
        }
        let run = fixture.run(agent, &folder, &format!("RUN {command}"), &harness);
        session = Some(run.session());
        let part = if resumed { "resumed" } else { "new" };
        verdict = verdict.and(
            run.check_restriction(NETWORK, count.load(Ordering::SeqCst) == 0, "the shell reached the listener")
                .on(part),
        );
        let searches = run
            .tools()
            .iter()
            .any(|name| ["web_search", "web_search_preview", "WebSearch", "WebFetch"].contains(&name.as_str()));
        verdict = verdict
            .and(run.check_restriction(NETWORK, !searches, "web search is offered").on(part))
            .and(model_was_asked(&run));
    }
    verdict
}

/// The payload names the server, so it may be called, with a warning that this is network access.
pub(super) fn no_network_with_http_server(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let (port, count) = listener();
    let servers = json!([{ "name": "remote", "url": format!("http://127.0.0.1:{port}/mcp") }]);
    let harness = json!({ "permissions": { "networkAccess": false }, "mcp": { "servers": servers } });
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "SAY fine", &harness);
    let reached = count.load(Ordering::SeqCst);
    let warned = run.warned_at("/harness/mcp/servers/0").is_some();
    run.check_option("/harness/mcp/servers/0", reached == 0 || warned, "the server is called, without a word")
}

fn foreign(fixture: &Fixture<'_>, by: SandboxedBy) -> Verdict {
    let agent = fixture.agent(by);
    let mut verdict = Verdict::works();
    for (index, mode) in [json!({}), json!({ "sandboxMode": "read-only" })].into_iter().enumerate() {
        let folder = fixture.folder(agent, &index.to_string());
        let proof = folder.join("proof");
        fs::create_dir(&proof).unwrap();
        plant(fixture, agent, &folder, &proof);
        let run = fixture.run(agent, &folder, "SAY explained", &permissions(&mode));
        let ran: Vec<String> = fs::read_dir(&proof)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let seen = format!("{mode}: what ran: {}", ran.join(" "));
        // Inside the host's sandbox a warning is enough.
        verdict = verdict.and(match by {
            SandboxedBy::Host => run.check_option("/cwd", ran.is_empty(), seen),
            SandboxedBy::Cli => run.check_restriction("/cwd", ran.is_empty(), seen),
        });
        verdict = verdict.and(run.check_option("/cwd", run.answer() == "explained", run.end()));
        // Rules of the project do not allow a command either.
        if mode["sandboxMode"] == "read-only" {
            let shell = fixture.run(agent, &folder, "RUN touch proof/shell", &permissions(&mode));
            verdict = verdict.and(shell.check_restriction(
                MODE,
                !proof.join("shell").exists(),
                "a rule of the project let a command through",
            ));
        }
    }
    verdict
}

pub(super) fn foreign_project(fixture: &Fixture<'_>) -> Verdict {
    foreign(fixture, SandboxedBy::Host)
}

pub(super) fn foreign_project_by_cli(fixture: &Fixture<'_>) -> Verdict {
    foreign(fixture, SandboxedBy::Cli)
}

/// A scheduled prompt is a file in the project.
pub(super) fn scheduled_prompt(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Cli);
    let folder = fixture.folder(agent, "a");
    let input = json!({ "cron": "7 * * * *", "prompt": "SAY later", "durable": true, "recurring": true });
    let run = fixture.run(
        agent,
        &folder,
        &format!("TOOL CronCreate {input}"),
        &permissions(&json!({ "sandboxMode": "read-only" })),
    );
    let left = files_below(&folder);
    run.check_restriction(MODE, left.is_empty(), format!("left in the project: {}", left.join(" ")))
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
