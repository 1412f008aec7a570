//! Submits a run and follows it to its end: `cargo run -p ostler-client --example run_and_follow -- PROMPT`.
//!
//! It finds `ostler` in `PATH` (or in `OSTLER`), starts a host if none is running, allows agents to work in the current
//! folder, and prints the text of the agent. Stop it at any time: the run continues, and the next start can follow it
//! from the cursor of the last event.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use ostler_client::{Client, ClientConfig, HostCommand, StreamItem};
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{EventType, RunEnd, Semantic};
use serde::Deserialize;
use serde_json::{Value, json};

/// Runs `ostler ARGS --json` and parses its output.
fn run_command(program: &Path, args: &[&str]) -> Result<Value, Box<dyn Error>> {
    let output = Command::new(program).args(args).arg("--json").output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| "SAY hello".to_owned());
    let program = std::env::var_os("OSTLER").map_or_else(|| PathBuf::from("ostler"), PathBuf::from);
    let socket = run_command(&program, &["config", "path"])?["socket"].as_str().ok_or("no socket")?.into();
    let version = run_command(&program, &["version"])?["version"].as_str().ok_or("no version")?.to_owned();

    let start = Some(HostCommand::ostler(program));
    let client = Client::connect(ClientConfig { start, ..ClientConfig::new(socket, version) }).await?;
    let folder = std::env::current_dir()?;
    client.grant_workspace(folder.clone(), None).await?;
    let run = client.start_run(&json!({"provider": "rehearsal", "prompt": prompt, "cwd": folder})).await?.run_id;

    let mut events = client.follow(SubscribeParams { run_id: Some(run), ..SubscribeParams::default() });
    loop {
        let event = match events.next().await? {
            StreamItem::Event(event) => event,
            StreamItem::Interrupted(reason) => {
                eprintln!("the connection broke and is made again: {reason}");
                continue;
            }
        };
        match event.kind {
            EventType::Semantic => {
                if let Semantic::TextDelta(piece) = Semantic::deserialize(&event.payload)? {
                    print!("{}", piece.text);
                }
            }
            kind if kind.terminal() => {
                let end = RunEnd::deserialize(&event.payload)?;
                println!("\n{}: {}", kind.name(), end.message);
                return Ok(());
            }
            _ => {}
        }
    }
}
