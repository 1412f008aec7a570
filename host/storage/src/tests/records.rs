use std::path::Path;

use serde_json::json;

use ostler_protocol::{
    Artifact, ArtifactId, CapabilitySnapshot, Conversation, ConversationId, JobState, LastRun, Page, Profile,
    ProfileId, RunSummary, Support, Usage,
};

use super::*;

fn snapshot(version: &str) -> CapabilitySnapshot {
    CapabilitySnapshot {
        provider: "codex".to_owned(),
        plugin: "codex".to_owned(),
        plugin_digest: "00".to_owned(),
        executable: Some(PathBuf::from("/bin/codex")),
        support: Support::Supported,
        cli_version: Some(version.to_owned()),
        features: vec!["resume".to_owned()],
        modes: vec![RunMode::NonInteractive],
        optional_flags: Vec::new(),
        reasons: Vec::new(),
        install_hint: None,
        extra: None,
        sandbox: None,
        detected_at: at(0),
    }
}

#[test]
fn run_is_stored_from_submit_to_end() {
    let (_home, storage) = home();
    let key = write(&storage, |tx| tx.put_snapshot("f", &snapshot("1"))).unwrap();
    let run = NewRun { snapshot: Some(key), ..new_run() };
    let run_id = run.run_id;
    let arrival = write(&storage, move |tx| {
        let arrival = tx.insert_run(&run)?;
        tx.insert_job(&NewJob { carry: Some("{\"retries\":0}".to_owned()), ..new_job(run_id) })?;
        tx.put_seal(run_id, b"sealed")?;
        Ok(arrival)
    })
    .unwrap();
    assert_eq!(storage.read(|r| r.seal(run_id)).unwrap().as_deref(), Some(b"sealed".as_slice()));
    let waiting = storage.read(Reader::recovery).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].job.state, JobState::Ready);
    assert_eq!(waiting[0].arrival, arrival);
    assert_eq!(waiting[0].carry.as_deref(), Some("{\"retries\":0}"));

    let started = Started { attempt: 1, at: at(2), process: None };
    assert!(write(&storage, move |tx| tx.set_running(run_id, &started)).unwrap());
    assert!(write(&storage, move |tx| tx.set_process(run_id, Some("{\"pid\":7}"))).unwrap());
    let running = storage.read(Reader::recovery).unwrap();
    assert_eq!(running[0].job.state, JobState::Running);
    assert_eq!(running[0].process.as_deref(), Some("{\"pid\":7}"));
    assert_eq!(storage.read(|r| r.run_status(run_id)).unwrap(), Some(RunStatus::Running));

    let back = Requeued {
        state: JobState::Retrying,
        attempt: 2,
        enqueued_at: Some(at(3)),
        not_before: Some(at(5)),
        reason: Some(EndReason::RateLimited),
        message: Some("too many".to_owned()),
        carry: Some("{\"retries\":1}".to_owned()),
    };
    assert!(write(&storage, move |tx| tx.set_requeued(run_id, &back)).unwrap());
    let retrying = &storage.read(Reader::recovery).unwrap()[0];
    assert_eq!((retrying.job.attempt, retrying.job.not_before), (2, Some(at(5))));
    assert_eq!((retrying.job.enqueued_at, retrying.process.as_deref()), (at(3), None));
    let summary = storage.read(|r| r.run_summary(run_id)).unwrap().unwrap();
    assert_eq!((summary.status, summary.reason), (RunStatus::Queued, Some(EndReason::RateLimited)));
    assert!(!write(&storage, move |tx| tx.set_process(run_id, Some("x"))).unwrap(), "it does not run");

    let started = Started { attempt: 2, at: at(6), process: Some("{\"pid\":8}".to_owned()) };
    assert!(write(&storage, move |tx| tx.set_running(run_id, &started)).unwrap());
    write(&storage, move |tx| {
        tx.append_event(&chunk(run_id, "hello"))?;
        tx.append_event(&event(Some(run_id), EventType::Warning, r#"{"code":"SPAWN_RETRY","message":"w"}"#))?;
        tx.append_event(&event(Some(run_id), EventType::StructuredOutput, r#"{"result":{"a":1}}"#))?;
        tx.append_event(&event(Some(run_id), EventType::CompatibilityWarning, r#"{"pointer":"/x","reason":"r"}"#))?;
        tx.set_session(run_id, Some("s-1"))?;
        tx.insert_artifact(
            run_id,
            &Artifact {
                artifact_id: ArtifactId::generate(),
                kind: "md".to_owned(),
                path: PathBuf::from("/exports/a.md"),
                bytes: 12,
                created_at: at(8),
            },
            false,
        )
    })
    .unwrap();
    let mut end = outcome(RunStatus::Completed);
    end.usage = Some(Usage { input_tokens: Some(10), ..Usage::default() });
    let written = write(&storage, move |tx| tx.finish_run(run_id, &end)).unwrap().unwrap();
    assert_eq!(written.seq, Some(5));

    let record = storage.read(|r| r.run(run_id)).unwrap().unwrap();
    assert_eq!(record.summary.status, RunStatus::Completed);
    assert_eq!(record.summary.exit_code, Some(0));
    assert_eq!((record.summary.attempt, record.summary.queue_priority), (2, 3));
    assert_eq!((record.summary.started_at, record.summary.ended_at), (Some(at(6)), Some(at(9))));
    assert_eq!(record.payload, json!({"provider": "codex", "prompt": "do it"}));
    assert_eq!(record.sealed_pointers, ["/prompt"]);
    assert_eq!(record.session_id.as_deref(), Some("s-1"));
    assert_eq!(record.final_text.as_deref(), Some("the answer"));
    assert_eq!(record.structured_output, Some(json!({"a": 1})));
    assert_eq!(record.usage.unwrap().input_tokens, Some(10));
    assert_eq!(record.warnings.len(), 2);
    assert_eq!(record.warnings[1]["pointer"], "/x");
    assert_eq!(record.capabilities, Some(snapshot("1")));
    assert_eq!(record.artifacts[0].bytes, 12);
    assert_eq!(record.job.unwrap().state, JobState::Done);
    assert_eq!(storage.read(|r| r.seal(run_id)).unwrap(), None, "the seal goes with the terminal event");
    assert!(storage.read(Reader::recovery).unwrap().is_empty());
    let usage = storage.read(|r| r.session_usage("codex", "s-1", None)).unwrap();
    assert_eq!(usage[0].usage.as_ref().unwrap().input_tokens, Some(10));
    assert!(storage.read(|r| r.session_usage("codex", "s-1", Some(run_id))).unwrap().is_empty());
    assert_eq!(storage.read(|r| r.runs_of_session("codex", "s-1")).unwrap().len(), 1);
}

#[test]
fn record_of_a_failed_run_has_the_code_and_hint_of_its_end() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let mut outcome = outcome(RunStatus::Failed);
    (outcome.end.code, outcome.end.hint) = (Some("http-429".to_owned()), Some("try later".to_owned()));
    write(&storage, move |tx| tx.finish_run(run_id, &outcome)).unwrap();
    let record = storage.read(|r| r.run(run_id)).unwrap().unwrap();
    assert_eq!((record.code.as_deref(), record.hint.as_deref()), (Some("http-429"), Some("try later")));
}

#[test]
fn second_end_of_a_run_has_no_effect() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    assert!(finish(&storage, run_id, RunStatus::Canceled).is_some());
    assert!(finish(&storage, run_id, RunStatus::Completed).is_none());
    let started = Started { attempt: 1, at: at(2), process: None };
    assert!(!write(&storage, move |tx| tx.set_running(run_id, &started)).unwrap(), "a canceled run does not start");
    let back = Requeued {
        state: JobState::Retrying,
        attempt: 2,
        enqueued_at: None,
        not_before: None,
        reason: None,
        message: None,
        carry: None,
    };
    assert!(!write(&storage, move |tx| tx.set_requeued(run_id, &back)).unwrap());
    let late = storage.append(vec![chunk(run_id, "late")]).wait().unwrap_err();
    assert_eq!(late.kind(), StorageErrorKind::Ended);
    assert_eq!(write(&storage, move |tx| tx.put_seal(run_id, b"s")).unwrap_err().kind(), StorageErrorKind::Ended);
    let record = storage.read(|r| r.run(run_id)).unwrap().unwrap();
    assert_eq!((record.summary.status, record.job.unwrap().state), (RunStatus::Canceled, JobState::Done));
    let events = all_events(&storage, &EventFilter::default(), ReadLimit::default());
    assert_eq!(events.iter().filter(|event| event.kind.terminal()).count(), 1);
}

#[test]
fn invalid_writes_are_rejected() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let kind = |result: Result<(), StorageError>| result.unwrap_err().kind();
    assert_eq!(kind(write(&storage, move |tx| tx.insert_job(&new_job(run_id)))), StorageErrorKind::Exists);
    let stray = RunId::generate();
    assert_eq!(kind(write(&storage, move |tx| tx.set_session(stray, None))), StorageErrorKind::NotFound);
    assert_eq!(
        kind(write(&storage, move |tx| tx.append_event(&event(Some(run_id), EventType::RunFailed, "{}")).map(drop))),
        StorageErrorKind::Invalid
    );
    assert_eq!(
        kind(write(&storage, move |tx| tx.finish_run(run_id, &outcome(RunStatus::Queued)).map(drop))),
        StorageErrorKind::Invalid
    );
    assert_eq!(kind(write(&storage, move |tx| tx.delete_run(run_id).map(drop))), StorageErrorKind::Invalid);
    assert_eq!(kind(write(&storage, |tx| tx.put_setting("", &json!(1), at(0)))), StorageErrorKind::Invalid);
    let stray = ConversationId::generate();
    assert_eq!(
        kind(write(&storage, move |tx| tx.link_conversation(stray, run_id, at(0)).map(drop))),
        StorageErrorKind::NotFound
    );
    assert_eq!(
        storage.read(|r| r.run_events(RunId::generate(), 0, ReadLimit::default())).unwrap_err().kind(),
        StorageErrorKind::NotFound
    );
    assert!(storage.read(|r| r.run(RunId::generate())).unwrap().is_none());
}

#[test]
fn run_lists_are_filtered_and_newest_first() {
    let (_home, storage) = home();
    let mut ids = Vec::new();
    for n in 0..10_i64 {
        let run =
            NewRun { provider: if n % 2 == 0 { "codex" } else { "claude" }.to_owned(), created_at: at(n), ..new_run() };
        ids.push(run.run_id);
        write(&storage, move |tx| tx.insert_run(&run)).unwrap();
    }
    finish(&storage, ids[4], RunStatus::Failed);
    let list = |filter: RunFilter, limit, offset| storage.read(|r| r.runs(&filter, limit, offset)).unwrap();
    let all = list(RunFilter::default(), 3, 1);
    assert_eq!(all.total, 10);
    assert_eq!(all.items.iter().map(|run| run.run_id).collect::<Vec<_>>(), [ids[8], ids[7], ids[6]]);
    let codex = RunFilter { provider: Some("codex".to_owned()), ..RunFilter::default() };
    assert_eq!(list(codex.clone(), 100, 0).total, 5);
    let failed = RunFilter { status: Some(RunStatus::Failed), ..codex };
    assert_eq!(list(failed, 100, 0).items[0].run_id, ids[4]);
    let window = RunFilter { from: Some(at(2)), until: Some(at(5)), ..RunFilter::default() };
    assert_eq!(list(window, 100, 0).total, 3);
    let none = RunFilter { conversation_id: Some(ConversationId::generate()), ..RunFilter::default() };
    assert_eq!(list(none, 100, 0).total, 0);
    // The same page, with either index.
    for offset in 0..6 {
        let page = list(RunFilter { provider: Some("claude".to_owned()), ..RunFilter::default() }, 2, offset);
        let wanted: Vec<_> = [9, 7, 5, 3, 1].iter().map(|n| ids[*n]).skip(offset as usize).take(2).collect();
        assert_eq!(page.items.iter().map(|run| run.run_id).collect::<Vec<_>>(), wanted);
        assert_eq!(page.total, 5);
    }
    let counts = storage.read(Reader::counts).unwrap();
    assert!(counts.runs.contains(&(RunStatus::Queued, 9)) && counts.runs.contains(&(RunStatus::Failed, 1)));
}

#[test]
fn conversation_lists_its_runs_in_order() {
    let (home, storage) = home();
    let row = Conversation { metadata: json!({"k": 1}), ..new_conversation() };
    let id = row.conversation_id;
    write(&storage, move |tx| tx.insert_conversation(&row)).unwrap();
    let listed = |include_archived| {
        let filter = ConversationFilter { provider: Some("codex".to_owned()), include_archived, search: None };
        storage.read(|r| r.conversations(&filter, 10, 0)).unwrap()
    };
    assert_eq!((listed(false).items[0].runs, &listed(false).items[0].last_run), (0, &None));
    let (first, second) = (submit(&storage), submit(&storage));
    assert_eq!(write(&storage, move |tx| tx.conversation_of(first)).unwrap(), None);
    for (run_id, position) in [(first, 1), (second, 2)] {
        assert_eq!(write(&storage, move |tx| tx.link_conversation(id, run_id, at(1))).unwrap(), position);
    }
    let twice = write(&storage, move |tx| tx.link_conversation(id, second, at(1))).unwrap_err();
    assert_eq!(twice.kind(), StorageErrorKind::Exists);
    let stored = write(&storage, move |tx| {
        let mut row = tx.conversation_of(first)?.unwrap();
        row.title = Some("t".to_owned());
        row.session_id = Some("s".to_owned());
        row.metadata = json!({});
        row.archived_at = Some(at(3));
        row.updated_at = at(3);
        tx.update_conversation(&row)?;
        let mut message = event(None, EventType::ConversationMessageSent, "{}");
        message.conversation_id = Some(id);
        tx.append_event(&message)?;
        tx.append_event(&chunk(first, "a"))?;
        assert!(tx.conversation_works(id)?);
        assert_eq!(tx.conversation(id)?, row);
        Ok(row)
    })
    .unwrap();
    assert_eq!(stored.cwd.as_deref(), Some(Path::new("/projects")));
    assert_eq!(storage.read(|r| r.conversation(id)).unwrap(), Some(stored));
    let page = |limit, offset| {
        let page = storage.read(|r| r.runs_of_conversation(id, limit, offset)).unwrap();
        assert_eq!(page.total, 2);
        page.items.into_iter().map(|run| run.run_id).collect::<Vec<_>>()
    };
    assert_eq!((page(9, 0), page(1, 0), page(1, 1)), (vec![first, second], vec![second], vec![first]));
    let summary = storage.read(|r| r.run_summary(second)).unwrap().unwrap();
    assert_eq!(summary.conversation_id, Some(id));
    assert_eq!((listed(false).total, listed(true).total), (0, 1));
    let shown = listed(true).items.remove(0);
    assert_eq!(shown.last_run, Some(LastRun { run_id: second, status: RunStatus::Queued }));
    assert_eq!((shown.runs, shown.conversation.title.as_deref()), (2, Some("t")));

    // Data that the writer has not cached is read from the database, as after a restart.
    drop(storage);
    let storage = home.open();
    for run in [second, first] {
        finish(&storage, run, RunStatus::Completed);
    }
    assert!(!write(&storage, move |tx| tx.conversation_works(id)).unwrap());
    let filter = EventFilter { conversation_id: Some(id), ..EventFilter::default() };
    let events = all_events(&storage, &filter, ReadLimit { events: 1, bytes: 1 });
    let runs: Vec<_> = events.iter().map(|event| (event.run_id, event.seq)).collect();
    let expected = [(None, None), (Some(first), Some(1)), (Some(second), Some(1)), (Some(first), Some(2))];
    assert_eq!(runs, expected);
}

#[test]
fn small_tables_store_their_rows() {
    let (home, storage) = home();
    // Capability snapshots: an equal one updates the time of the same row.
    let first = write(&storage, |tx| tx.put_snapshot("f", &snapshot("1"))).unwrap();
    let again = write(&storage, |tx| tx.put_snapshot("f", &CapabilitySnapshot { detected_at: at(9), ..snapshot("1") }))
        .unwrap();
    assert_eq!(first, again);
    let second = write(&storage, |tx| tx.put_snapshot("f", &snapshot("2"))).unwrap();
    assert_ne!(first, second);
    let newest = storage.read(|r| r.newest_snapshot("codex")).unwrap().unwrap();
    assert_eq!((newest.key, newest.fingerprint.as_str()), (second, "f"));
    assert_eq!(storage.read(Reader::newest_snapshots).unwrap().len(), 1);
    assert_eq!(storage.read(|r| r.snapshot(first)).unwrap().unwrap().detected_at, at(9));
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path fits one lifetime only")]
    let dropped = write(&storage, |tx| tx.drop_old_snapshots()).unwrap();
    assert_eq!(dropped, 1);
    // Grants.
    let path = Path::new("/projects/a");
    let grant = |trust, second| write(&storage, move |tx| tx.add_grant(path, trust, at(second))).unwrap();
    assert_eq!((grant(None, 1).created_at, grant(None, 2).created_at), (at(1), at(1)));
    // Trust changes only if it is given explicitly.
    let trusts = [None, Some(true), None, Some(false), None].map(|trust| grant(trust, 3).trust_settings);
    assert_eq!(trusts, [false, true, true, false, false]);
    assert_eq!(storage.read(Reader::grants).unwrap()[0].path, path);
    // Settings.
    write(&storage, |tx| tx.put_setting("scheduler.global", &json!(4), at(1))).unwrap();
    // Profiles.
    let profile = Profile {
        profile_id: ProfileId::generate(),
        name: "fast".to_owned(),
        provider: "codex".to_owned(),
        config: json!({"model": "m"}),
        created_at: at(0),
        updated_at: at(0),
    };
    let kept = profile.clone();
    write(&storage, move |tx| tx.put_profile(&kept)).unwrap();
    let namesake = Profile { profile_id: ProfileId::generate(), ..profile.clone() };
    let taken = write(&storage, move |tx| tx.put_profile(&namesake)).unwrap_err();
    assert_eq!(taken.kind(), StorageErrorKind::Exists);
    // Which providers have a token.
    for store in ["keyutils", "file"] {
        write(&storage, move |tx| tx.put_token_mark("codex", store, at(1))).unwrap();
    }
    // Retention.
    let policy = RetentionRow {
        scope: RetentionScope::Workspace(PathBuf::from("/projects")),
        days: None,
        megabytes: Some(5),
        updated_at: at(1),
    };
    let kept = policy.clone();
    write(&storage, move |tx| tx.put_retention(&kept)).unwrap();

    // All of it is stored after a restart.
    drop(storage);
    let storage = home.open();
    assert_eq!(storage.read(Reader::settings).unwrap(), [("scheduler.global".to_owned(), json!(4))]);
    assert_eq!(storage.read(|r| r.setting("scheduler.global")).unwrap(), Some(json!(4)));
    assert_eq!(storage.read(|r| r.setting(".boot")).unwrap(), None);
    assert_eq!(storage.read(|r| r.profile("fast")).unwrap(), Some(profile.clone()));
    assert_eq!(storage.read(|r| r.profile(&profile.profile_id.to_string())).unwrap(), Some(profile.clone()));
    assert_eq!(storage.read(Reader::profiles).unwrap().len(), 1);
    let policies = storage.read(Reader::retention).unwrap();
    assert_eq!(policies, std::slice::from_ref(&policy), "only the stored policy is listed");
    assert_eq!(storage.read(|r| r.token_mark("codex")).unwrap().as_deref(), Some("file"));
    assert_eq!(storage.read(Reader::token_marks).unwrap(), [("codex".to_owned(), "file".to_owned())]);
    assert!(write(&storage, |tx| tx.delete_token_mark("codex")).unwrap());
    assert!(!write(&storage, |tx| tx.delete_token_mark("codex")).unwrap());
    assert!(write(&storage, |tx| tx.revoke_grant(path)).unwrap());
    assert!(!write(&storage, |tx| tx.revoke_grant(path)).unwrap());
    assert!(write(&storage, |tx| tx.delete_setting("scheduler.global")).unwrap());
    assert!(!write(&storage, |tx| tx.delete_setting(".boot")).unwrap());
    assert!(write(&storage, move |tx| tx.delete_profile(profile.profile_id)).unwrap());
    assert!(write(&storage, move |tx| tx.delete_retention(&policy.scope)).unwrap());
    assert!(!write(&storage, |tx| tx.delete_retention(&RetentionScope::Global)).unwrap());
}

#[test]
fn cursor_before_a_deleted_run_is_reported_as_truncated() {
    let (home, storage) = home();
    let (old, kept) = (submit(&storage), submit(&storage));
    for run_id in [old, kept, old] {
        storage.append(vec![chunk(run_id, "x")]).wait().unwrap();
    }
    let end = finish(&storage, old, RunStatus::Completed).unwrap();
    assert_eq!(storage.read(|r| r.check_cursor(0, None)).unwrap(), CursorCheck::Complete);
    assert!(write(&storage, move |tx| tx.delete_run(old)).unwrap());
    assert!(!write(&storage, move |tx| tx.delete_run(old)).unwrap());
    let last = end.cursor;
    assert_eq!(
        storage.read(Reader::bounds).unwrap(),
        Bounds { first: last - 2, last, deleted_through: last },
        "the run that is kept has one event"
    );
    assert_eq!(storage.read(|r| r.check_cursor(0, None)).unwrap(), CursorCheck::Truncated { first: last - 2 });
    assert_eq!(storage.read(|r| r.check_cursor(last - 1, None)).unwrap(), CursorCheck::Truncated { first: last + 1 });
    assert_eq!(storage.read(|r| r.check_cursor(last, None)).unwrap(), CursorCheck::Complete);
    assert_eq!(storage.read(|r| r.check_cursor(last + 1, None)).unwrap(), CursorCheck::Unknown);
    assert!(write(&storage, |tx| tx.vacuum(0)).unwrap() < 2);
    // The newest cursors were deleted, and are not reused.
    drop(storage);
    let storage = home.open();
    assert_eq!(storage.append(vec![chunk(kept, "y")]).wait().unwrap()[0].cursor, last + 1);
}

#[test]
fn event_pages_are_limited_by_count_bytes_and_type() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let text = "t".repeat(100);
    storage.append((0..20).map(|_| chunk(run_id, &text)).collect()).wait().unwrap();
    let page = |filter: &EventFilter, after, events, bytes| {
        storage.read(|r| r.events_after(after, filter, ReadLimit { events, bytes })).unwrap()
    };
    let all = EventFilter::default();
    let first = page(&all, 0, 5, 1 << 20);
    assert_eq!((first.events.len(), first.more, first.next), (5, true, 5));
    let few = page(&all, 5, 100, 300);
    assert_eq!((few.events.len(), few.more), (2, true));
    assert_eq!(page(&all, 0, 1, 1).events.len(), 1, "at least one event is returned");
    let rest = page(&all, 5, 100, 1 << 20);
    assert_eq!((rest.events.len(), rest.more, rest.next), (15, false, 20));
    let warnings = EventFilter { types: vec![EventType::Warning], ..EventFilter::default() };
    let none = page(&warnings, 0, 5, 1 << 20);
    assert_eq!((none.events.len(), none.more, none.next), (0, false, 20));
    let stranger = EventFilter { run_id: Some(RunId::generate()), ..EventFilter::default() };
    assert_eq!(page(&stranger, 0, 5, 5).next, 20);
    let mine = EventFilter { run_id: Some(run_id), ..EventFilter::default() };
    for after in 0..=20 {
        let page = page(&mine, after, 100, 1 << 20);
        assert_eq!(page.events.len() as u64, 20 - after);
        assert!(page.events.first().is_none_or(|event| event.cursor == after + 1));
    }
    let tail = storage.read(|r| r.run_events(run_id, 18, ReadLimit::default())).unwrap();
    assert_eq!(tail.iter().map(|event| event.seq).collect::<Vec<_>>(), [Some(19), Some(20)]);
}

#[test]
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method itself is not general enough in its lifetimes"
)]
fn failures_are_open_until_they_are_acknowledged_or_their_run_is_deleted() {
    let (_home, storage) = home();
    let ended: Vec<RunId> =
        [RunStatus::Failed, RunStatus::Completed, RunStatus::Interrupted, RunStatus::Canceled, RunStatus::Failed]
            .into_iter()
            .map(|status| {
                let run_id = submit(&storage);
                finish(&storage, run_id, status);
                run_id
            })
            .collect();
    let open = |limit| storage.read(|r| r.open_failures(limit)).unwrap();
    let ids = |page: &Page<RunSummary>| page.items.iter().map(|run| run.run_id).collect::<Vec<_>>();
    let page = open(2);
    assert_eq!((ids(&page), page.total), (vec![ended[4], ended[2]], 3));
    let acknowledge = |run| write(&storage, move |tx| tx.acknowledge_failure(run));
    assert!(acknowledge(ended[4]).unwrap());
    assert!(!acknowledge(ended[4]).unwrap(), "it was acknowledged before");
    assert!(!acknowledge(ended[1]).unwrap(), "it did not fail");
    assert!(acknowledge(RunId::generate()).is_err());
    let deleted = ended[2];
    write(&storage, move |tx| tx.delete_run(deleted)).unwrap();
    assert_eq!(ids(&open(9)), [ended[0]]);
    assert_eq!(write(&storage, |tx| tx.acknowledge_all_failures()).unwrap(), 1);
    assert_eq!(open(9).total, 0);
}

#[test]
fn events_before_a_cursor_are_the_newest_ones_in_order() {
    let (_home, storage) = home();
    let (run_id, other) = (submit(&storage), submit(&storage));
    let mut cursors = Vec::new();
    for number in 0..10 {
        let text = number.to_string();
        cursors.push(write(&storage, move |tx| tx.append_event(&chunk(run_id, &text))).unwrap().cursor);
        write(&storage, move |tx| tx.append_event(&chunk(other, "x"))).unwrap();
    }
    let before = |cursor, events| {
        let limit = ReadLimit { events, ..ReadLimit::default() };
        let page = storage.read(|r| r.run_events_before(run_id, cursor, limit)).unwrap();
        (page.events.iter().map(|event| event.cursor).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(before(u64::MAX, 3), (cursors[7..].to_vec(), true));
    assert_eq!(before(cursors[7], 5), (cursors[2..7].to_vec(), true));
    assert_eq!(before(cursors[2], 5), (cursors[..2].to_vec(), false));
    // A cursor between those of the run, or one of another run.
    assert_eq!(before(cursors[2] + 1, 1), (vec![cursors[2]], true));
    for nothing in [0, 1, cursors[0]] {
        assert_eq!(before(nothing, 5), (vec![], false), "{nothing}");
    }
    assert!(storage.read(|r| r.run_events_before(RunId::generate(), 9, ReadLimit::default())).is_err());
}
