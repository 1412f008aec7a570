use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A run with this prompt.
fn run_with_prompt(storage: &Storage, prompt: &str) -> RunId {
    let payload = json!({"provider": "codex", "prompt": prompt}).to_string();
    let run = NewRun { payload, ..new_run() };
    let run_id = run.run_id;
    write(storage, move |tx| {
        tx.insert_run(&run)?;
        tx.insert_job(&new_job(run_id))
    })
    .unwrap();
    run_id
}

fn finish_with_answer(storage: &Storage, run_id: RunId, answer: &str) {
    let mut outcome = outcome(RunStatus::Completed);
    outcome.end.final_text = Some(answer.to_owned());
    assert!(write(storage, move |tx| tx.finish_run(run_id, &outcome)).unwrap().is_some());
}

fn found(storage: &Storage, search: &str) -> Vec<RunId> {
    storage.index_texts().unwrap();
    let filter = RunFilter { search: Some(search.to_owned()), ..RunFilter::default() };
    let page = storage.read(|reader| reader.runs(&filter, 100, 0)).unwrap();
    assert_eq!(page.total, page.items.len() as u64, "{search}");
    page.items.into_iter().map(|run| run.run_id).collect()
}

#[test]
fn runs_are_found_by_words_of_prompt_and_answer() {
    let (home, storage) = home();
    let parser = run_with_prompt(&storage, "Fix the parser of the Überschrift, please\nand snake_case_names");
    let tests = run_with_prompt(&storage, "why are the tests flaky?");
    for (search, expected) in [
        ("parser", vec![parser]),
        ("PARSE", vec![parser]),
        ("uberschrift", vec![parser]),
        ("snake_case", vec![parser]),
        ("arser", vec![]),
        // The newest first.
        ("the", vec![tests, parser]),
        ("please fix", vec![parser]),
        ("\"fix the parser\"", vec![parser]),
        ("\"the fix parser\"", vec![]),
        ("\"the pars\"", vec![]),
        ("parser flaky", vec![]),
        // Names of payload members are not words of the prompt.
        ("codex", vec![]),
        ("- ?!", vec![]),
    ] {
        assert_eq!(found(&storage, search), expected, "{search}");
    }

    // The answer is added later, here from deltas; the words of both are searched together.
    for piece in ["a race ", "in the clean", "up of the fixture ", &"and more ".repeat(60)] {
        let delta = json!({"kind": "text_delta", "message": "m", "text": piece}).to_string();
        let semantic = event(Some(tests), EventType::Semantic, &delta);
        write(&storage, move |tx| tx.append_event(&semantic)).unwrap();
    }
    finish_with_answer(&storage, tests, &format!("a race in the cleanup of the fixture {}", "and more ".repeat(60)));
    assert_eq!(found(&storage, "cleanup"), [tests]);
    assert_eq!(found(&storage, "flaky fixture"), [tests]);
    assert_eq!(found(&storage, "parser"), [parser]);

    // Also after the host has ended, and together with other filters.
    drop(storage);
    let storage = home.open();
    let filter = |status| RunFilter { search: Some("the".to_owned()), status: Some(status), ..RunFilter::default() };
    let listed = |status| storage.read(|reader| reader.runs(&filter(status), 100, 0)).unwrap();
    assert_eq!(listed(RunStatus::Queued).items[0].run_id, parser);
    assert_eq!((listed(RunStatus::Completed).total, listed(RunStatus::Failed).total), (1, 0));
    let filter = RunFilter { search: Some("the".to_owned()), ..RunFilter::default() };
    let page = storage.read(|reader| reader.runs(&filter, 1, 1)).unwrap();
    assert_eq!((page.total, page.items[0].run_id), (2, parser));

    // A deleted run is not found, and its row in the index is not used for another run.
    assert!(write(&storage, move |tx| tx.delete_run(tests)).unwrap());
    assert_eq!(found(&storage, "cleanup"), []);
    let next = run_with_prompt(&storage, "something else");
    assert_eq!(found(&storage, "flaky"), []);
    assert_eq!(found(&storage, "something"), [next]);
}

#[test]
fn text_without_spaces_is_found_by_any_part_of_it() {
    let (_home, storage) = home();
    let chinese = run_with_prompt(&storage, "今天讨论了部署方案, 以及auth模块");
    let japanese = run_with_prompt(&storage, "デプロイの手順を説明してください");
    let korean = run_with_prompt(&storage, "배포서버를 확인해줘");
    let thai = run_with_prompt(&storage, "วิธีติดตั้งระบบ");
    for (search, expected) in [
        ("部署", vec![chinese]),
        ("部署方案", vec![chinese]),
        ("方案 讨论", vec![chinese]),
        ("署部", vec![]),
        ("部案", vec![]),
        ("auth模", vec![chinese]),
        ("auth", vec![chinese]),
        ("\"了部署\"", vec![chinese]),
        ("手順", vec![japanese]),
        ("デプロイ", vec![japanese]),
        ("プロ", vec![japanese]),
        ("서버", vec![korean]),
        ("확인", vec![korean]),
        ("ติดตั้ง", vec![thai]),
    ] {
        assert_eq!(found(&storage, search), expected, "{search}");
    }
    finish_with_answer(&storage, korean, "部署完了");
    assert_eq!(found(&storage, "部署"), [korean, chinese]);
    let row = Conversation { title: Some("关于部署的讨论".to_owned()), ..new_conversation() };
    let id = row.conversation_id;
    write(&storage, move |tx| tx.insert_conversation(&row)).unwrap();
    storage.index_texts().unwrap();
    let filter = ConversationFilter { search: Some("部署".to_owned()), ..ConversationFilter::default() };
    let page = storage.read(|reader| reader.conversations(&filter, 10, 0)).unwrap();
    assert_eq!(page.items.iter().map(|item| item.conversation.conversation_id).collect::<Vec<_>>(), [id]);
}

/// A home of the version before the one that segments texts.
#[test]
fn texts_indexed_by_an_earlier_version_are_indexed_again_and_counted_once() {
    let (home, storage) = home();
    let run = run_with_prompt(&storage, "今天讨论了部署方案");
    finish_with_answer(&storage, run, "好的");
    assert_eq!(found(&storage, "部署"), [run]);
    drop(storage);
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    let bytes = || conn.query_row("SELECT stored_bytes FROM runs", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = bytes();
    conn.execute_batch(
        "INSERT INTO run_texts (run_texts) VALUES ('delete-all');
         INSERT INTO run_texts (rowid, prompt, answer) SELECT num, '今天讨论了部署方案', '好的' FROM runs;
         DROP INDEX runs_to_index; DROP INDEX conversations_to_index;
         CREATE INDEX runs_to_index ON runs (num) WHERE indexed = 0;
         CREATE INDEX conversations_to_index ON conversations (num) WHERE indexed = 0;
         DROP TABLE queue_state; DROP TABLE paused_providers; DROP TABLE deleted_events; DROP TABLE last_boot;
         DROP TABLE open_failures; DROP TABLE pending_erasures;
         PRAGMA user_version = 7;",
    )
    .unwrap();
    let storage = home.open();
    assert_eq!(found(&storage, "部署"), [run]);
    assert_eq!(bytes(), before);
}

/// All bytes of the index.
fn index_bytes(home: &Home) -> Vec<u8> {
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    let mut statement = conn.prepare("SELECT block FROM run_texts_data").unwrap();
    let blocks = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    blocks.flat_map(Result::unwrap).collect()
}

#[test]
fn purge_removes_the_words_of_deleted_runs() {
    let (home, storage) = home();
    let holds = |word: &[u8]| memchr::memmem::find(&index_bytes(&home), word).is_some();
    let runs: Vec<RunId> =
        (0..50).map(|number| run_with_prompt(&storage, &format!("keep zebrafish{number} here"))).collect();
    let gone = run_with_prompt(&storage, "quokka");
    for run in runs.iter().chain([&gone]) {
        finish_with_answer(&storage, *run, "done");
        storage.index_texts().unwrap();
    }
    assert!(holds(b"quokka"));
    assert!(write(&storage, move |tx| tx.delete_run(gone)).unwrap());
    assert_eq!(found(&storage, "quokka"), []);
    let mut writes = 0;
    while !write(&storage, |tx| tx.purge_texts(16)).unwrap() {
        writes += 1;
        assert!(writes < 1000, "it does not end");
    }
    assert!(!holds(b"quokka"));
    assert_eq!(found(&storage, "zebrafish7"), [runs[7]]);
    assert_eq!(found(&storage, "keep").len(), 50);
}

#[test]
fn conversations_are_found_by_title_and_texts_of_runs() {
    let (_home, storage) = home();
    let row = Conversation { title: Some("the lexer".to_owned()), ..new_conversation() };
    let (id, mut renamed) = (row.conversation_id, row.clone());
    write(&storage, move |tx| tx.insert_conversation(&row)).unwrap();
    let other = new_conversation();
    write(&storage, move |tx| tx.insert_conversation(&other)).unwrap();
    let found = |search: &str| {
        storage.index_texts().unwrap();
        let filter = ConversationFilter { search: Some(search.to_owned()), ..ConversationFilter::default() };
        let page = storage.read(|reader| reader.conversations(&filter, 10, 0)).unwrap();
        assert_eq!(page.total, page.items.len() as u64);
        page.items.into_iter().map(|item| item.conversation.conversation_id).collect::<Vec<_>>()
    };
    assert_eq!(found("lexer"), [id]);
    assert_eq!(found("unicode"), []);
    for prompt in ["does it take unicode?", "and UNICODE in names?"] {
        let run_id = run_with_prompt(&storage, prompt);
        write(&storage, move |tx| tx.link_conversation(id, run_id, at(1))).unwrap();
        finish_with_answer(&storage, run_id, "it does");
    }
    assert_eq!(found("unicode does"), [id]);
    assert_eq!(found("unicode lexer"), [], "all words must be in one text");
    renamed.title = Some("the scanner".to_owned());
    write(&storage, move |tx| tx.update_conversation(&renamed)).unwrap();
    assert_eq!((found("lexer"), found("scanner")), (vec![], vec![id]));
}

#[test]
fn unreadable_row_does_not_prevent_indexing_of_others() {
    let (home, storage) = home();
    let runs: Vec<RunId> = (0..3).map(|number| run_with_prompt(&storage, &format!("number {number}"))).collect();
    finish_with_answer(&storage, runs[1], "an answer");
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    conn.execute("UPDATE run_bodies SET body = '{\"prompt' WHERE run = 1", []).unwrap();
    conn.execute("UPDATE run_events SET payload = '{' WHERE type = 'run.completed'", []).unwrap();
    assert_eq!(found(&storage, "number"), [runs[2], runs[1]]);
}

#[test]
fn long_text_is_indexed_up_to_the_limit() {
    let (_home, storage) = home();
    let long = run_with_prompt(&storage, &format!("{} beyond", "word é ".repeat(100_000)));
    assert_eq!(found(&storage, "word"), [long]);
    assert_eq!(found(&storage, "beyond"), []);
    finish_with_answer(&storage, long, &format!("{} beyond", "answer é ".repeat(100_000)));
    assert_eq!(found(&storage, "word answer"), [long]);
    assert_eq!(found(&storage, "beyond"), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// No search is an error; and every word of a text finds it.
    #[test]
    fn any_search_text_is_accepted(
        searches in prop::collection::vec("\\PC{0,40}|[\"*^():{}+ a-c\\-]{0,20}", 1..40),
        words in prop::collection::vec("[a-zA-Z0-9_]{1,12}", 1..20),
    ) {
        let (_home, storage) = home();
        let run = run_with_prompt(&storage, &words.join(" "));
        for search in &searches {
            found(&storage, search);
        }
        for word in words.iter().filter(|word| word.contains(char::is_alphanumeric)) {
            prop_assert_eq!(found(&storage, word), vec![run]);
        }
    }
}
