//! Reads from a large database: ten thousand runs with a hundred events each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use ostler_protocol::{
    Conversation, ConversationId, EndReason, EventType, JobState, NewEvent, RunEnd, RunId, RunMode, RunStatus,
};
use ostler_storage::{Durability, NewJob, NewRun, Options, Outcome, Storage, WriteTx};
use serde_json::{Value, json};

use crate::Scale;
use crate::client::Connection;
use crate::home::Home;
use crate::logs::Random;
use crate::report::{Report, Sample, show};

/// Two providers, so that a filter excludes something.
const CONFIG: &str = r#"
[providers.first]
plugin = "rehearsal"

[providers.second]
plugin = "rehearsal"
"#;

const EVENTS_OF_A_RUN: usize = 100;
const RUNS_OF_A_CONVERSATION: usize = 10;

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    let home = Home::new("archive", CONFIG);
    // Creates the data folder and the database.
    home.start().stop();
    let runs = scale.of(10_000, 100);
    let begun = Instant::now();
    let some = fill(&home.database(), home.work(), runs);
    let events = runs * EVENTS_OF_A_RUN;
    let size = std::fs::metadata(home.database()).map_or(0, |file| file.len() / 1_000_000);
    println!("{runs} runs with {events} events, {size} MB, written in {}", show(begun.elapsed()));

    let ready: Sample = (0..scale.of(5, 1))
        .map(|_| {
            let (host, ready) = home.serve();
            host.stop();
            ready
        })
        .collect();
    println!("host ready: {}", ready.show());
    let (host, _) = home.serve();
    let mut connection = host.connect();
    // The first search waits until all texts are indexed.
    let begun = Instant::now();
    connection.call("list_runs", &json!({"search": "nothing"}));
    println!("first search, with all texts indexed at its end: {}", show(begun.elapsed()));

    let times = scale.of(200, 5);
    let slowest = slowest_of(&mut connection, times, reads(&some));
    let searches = [
        json!({"search": "walrus"}),
        json!({"search": "the"}),
        json!({"search": "the parser", "provider": "second", "status": "completed"}),
        json!({"search": "\"of the parser\"", "limit": 50, "offset": 500}),
        json!({"search": "p"}),
        json!({"search": "nowhere"}),
    ];
    let search = slowest_of(&mut connection, times, searches.map(|params| ("list_runs", params)).into());
    slowest_of(&mut connection, times, vec![("list_conversations", json!({"search": "the parser"}))]);

    let what = format!("with {runs} runs and {events} events");
    report.millis(&format!("host ready {what}, p50"), ready.median(), 1000.0, format!("{size} MB"));
    report.millis(&format!("slowest reading command {what}, p50"), slowest.0, 2.0, slowest.1);
    report.millis(&format!("slowest search in runs {what}, p50"), search.0, 20.0, search.1);
    host.stop();
}

/// Makes each call this number of times, prints the times, and gives the median of the slowest call.
fn slowest_of(connection: &mut Connection, times: usize, calls: Vec<(&str, Value)>) -> (Duration, String) {
    let mut slowest = (Duration::ZERO, String::new());
    for (method, params) in calls {
        let call = |_| {
            let begun = Instant::now();
            connection.call(method, &params);
            begun.elapsed()
        };
        let sample: Sample = (0..times).map(call).collect();
        let asked: String = format!("{method} {params}").chars().take(62).collect();
        println!("  {asked:62} {}", sample.show());
        if sample.median() > slowest.0 {
            slowest = (sample.median(), asked);
        }
    }
    slowest
}

/// A run and a conversation in the middle of the database.
struct Middle {
    run: RunId,
    conversation: ConversationId,
    from: Timestamp,
    until: Timestamp,
}

/// The reading methods, with the parameters of front ends.
fn reads(some: &Middle) -> Vec<(&'static str, Value)> {
    vec![
        ("get_status", json!({})),
        ("list_runs", json!({})),
        ("list_runs", json!({"provider": "second"})),
        ("list_runs", json!({"status": "failed"})),
        ("list_runs", json!({"provider": "second", "status": "completed", "offset": 2000})),
        ("list_runs", json!({"dateFrom": some.from, "dateTo": some.until})),
        ("list_runs", json!({"conversationId": some.conversation})),
        ("get_run", json!({"runId": some.run})),
        ("get_run_events", json!({"runId": some.run})),
        ("get_run_events", json!({"runId": some.run, "limit": 10})),
        ("list_conversations", json!({})),
        ("list_conversations", json!({"provider": "second", "includeArchived": true})),
        ("get_conversation", json!({"conversationId": some.conversation})),
        ("list_queue_jobs", json!({})),
        ("list_capabilities", json!({})),
        ("list_profiles", json!({})),
        ("list_workspace_grants", json!({})),
        ("list_plugins", json!({})),
        ("get_settings", json!({"origins": true})),
        ("get_retention", json!({})),
    ]
}

/// Writes ended runs, one for each minute up to now, and gives those in the middle.
fn fill(database: &Path, work: &Path, runs: usize) -> Middle {
    let storage = Storage::open(database, &Options::default()).unwrap();
    let now = Timestamp::now();
    let at = move |run: usize| now - SignedDuration::from_mins(i64::try_from(runs - run).unwrap());
    let mut conversation = ConversationId::generate();
    let mut some = None;
    let work = work.to_owned();
    for number in 0..runs {
        let (run_id, work) = (RunId::generate(), work.clone());
        if number % RUNS_OF_A_CONVERSATION == 0 {
            conversation = ConversationId::generate();
        }
        if number == runs / 2 {
            some = Some(Middle { run: run_id, conversation, from: at(number), until: at(number + runs / 10) });
        }
        let write = storage
            .write(Durability::Batched, move |tx| one(tx, number, run_id, conversation, at(number), work.clone()));
        // At most 64 writes wait.
        if number % 64 == 63 {
            write.wait().unwrap();
        }
    }
    some.unwrap()
}

fn one(
    tx: &mut WriteTx<'_>,
    number: usize,
    run_id: RunId,
    conversation: ConversationId,
    at: Timestamp,
    cwd: PathBuf,
) -> Result<(), ostler_storage::StorageError> {
    let provider = if number.is_multiple_of(3) { "second" } else { "first" }.to_owned();
    let prompt = prose(number, 60);
    let payload = json!({"provider": provider, "prompt": prompt, "cwd": cwd, "mode": "non-interactive"}).to_string();
    tx.insert_run(&NewRun {
        run_id,
        provider: provider.clone(),
        model: None,
        mode: RunMode::NonInteractive,
        title: prompt.chars().take(80).collect(),
        cwd,
        priority: 0,
        origin: "cli".to_owned(),
        payload,
        sealed_pointers: Vec::new(),
        snapshot: None,
        session_id: None,
        created_at: at,
    })?;
    tx.insert_job(&NewJob {
        run_id,
        provider: provider.clone(),
        state: JobState::Ready,
        priority: 0,
        enqueued_at: at,
        not_before: None,
        carry: None,
    })?;
    // Half of the runs are in a conversation.
    if (number / RUNS_OF_A_CONVERSATION).is_multiple_of(2) {
        if number.is_multiple_of(RUNS_OF_A_CONVERSATION) {
            tx.insert_conversation(&Conversation {
                conversation_id: conversation,
                provider,
                title: Some(prose(number, 6)),
                metadata: json!({}),
                session_id: None,
                cwd: None,
                archived_at: None,
                created_at: at,
                updated_at: at,
            })?;
        }
        tx.link_conversation(conversation, run_id, at)?;
    }
    for event in 0..EVENTS_OF_A_RUN - 1 {
        let text = prose(number * 31 + event, 12);
        tx.append_event(&NewEvent {
            run_id: Some(run_id),
            conversation_id: None,
            kind: EventType::Semantic,
            payload: json!({"kind": "text_delta", "message": "m", "text": text}).to_string(),
            timestamp: at,
        })?;
    }
    let failed = number % 10 == 9;
    tx.finish_run(
        run_id,
        &Outcome {
            status: if failed { RunStatus::Failed } else { RunStatus::Completed },
            end: RunEnd {
                answer: None,
                exit_code: Some(i32::from(failed)),
                reason: if failed { EndReason::Unknown } else { EndReason::Completed },
                code: None,
                message: "it ended".to_owned(),
                hint: None,
                final_text: Some(prose(number * 7, 200)),
            },
            usage: None,
            at,
        },
    )?;
    Ok(())
}

/// Words, the same for the same number. Every text contains `the`, and few contain `walrus`.
fn prose(number: usize, words: usize) -> String {
    const WORDS: [&str; 24] = [
        "the", "parser", "of", "the", "lexer", "reads", "each", "line", "twice", "when", "a", "test", "fails", "under",
        "load", "because", "its", "fixture", "keeps", "an", "open", "file", "behind", "it",
    ];
    let mut random = Random(number as u64);
    let mut text = String::from("the");
    for _ in 1..words {
        text.push(' ');
        // Names and numbers, most of them rare, as in real texts.
        match random.below(6) {
            0 => text.push_str(&format!("item{}", random.below(1 << 16))),
            _ => text.push_str(random.pick(&WORDS)),
        }
    }
    if number.is_multiple_of(3500) {
        text.push_str(" walrus");
    }
    text
}
