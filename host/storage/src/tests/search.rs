use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A run with this prompt.
fn asked(storage: &Storage, prompt: &str) -> RunId {
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

fn answered(storage: &Storage, run_id: RunId, answer: &str) {
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
fn prompts_and_answers_are_found_by_their_words() {
    let (home, storage) = home();
    let parser = asked(&storage, "Fix the parser of the Überschrift, please\nand snake_case_names");
    let tests = asked(&storage, "why are the tests flaky?");
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
        // Members of the payload are no words of the prompt.
        ("codex", vec![]),
        ("- ?!", vec![]),
    ] {
        assert_eq!(found(&storage, search), expected, "{search}");
    }

    // The answer comes later, here from deltas; both count together.
    for piece in ["a race ", "in the clean", "up of the fixture ", &"and more ".repeat(60)] {
        let delta = json!({"kind": "text_delta", "message": "m", "text": piece}).to_string();
        let semantic = event(Some(tests), EventType::Semantic, &delta);
        write(&storage, move |tx| tx.append_event(&semantic)).unwrap();
    }
    answered(&storage, tests, &format!("a race in the cleanup of the fixture {}", "and more ".repeat(60)));
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

    // What is deleted is not found, nor does its place in the index serve for another run.
    assert!(write(&storage, move |tx| tx.delete_run(tests)).unwrap());
    assert_eq!(found(&storage, "cleanup"), []);
    let next = asked(&storage, "something else");
    assert_eq!(found(&storage, "flaky"), []);
    assert_eq!(found(&storage, "something"), [next]);
}

#[test]
fn text_without_spaces_is_found_by_any_part_of_it() {
    let (_home, storage) = home();
    let chinese = asked(&storage, "今天讨论了部署方案, 以及auth模块");
    let japanese = asked(&storage, "デプロイの手順を説明してください");
    let korean = asked(&storage, "배포서버를 확인해줘");
    let thai = asked(&storage, "วิธีติดตั้งระบบ");
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
    answered(&storage, korean, "部署完了");
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
fn texts_that_an_earlier_version_has_indexed_are_indexed_again_and_their_size_counts_once() {
    let (home, storage) = home();
    let run = asked(&storage, "今天讨论了部署方案");
    answered(&storage, run, "好的");
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
         PRAGMA user_version = 7;",
    )
    .unwrap();
    let storage = home.open();
    assert_eq!(found(&storage, "部署"), [run]);
    assert_eq!(bytes(), before);
}

/// Every byte that the index holds.
fn index_bytes(home: &Home) -> Vec<u8> {
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    let mut statement = conn.prepare("SELECT block FROM run_texts_data").unwrap();
    let blocks = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    blocks.flat_map(Result::unwrap).collect()
}

#[test]
fn the_words_of_what_was_deleted_go_from_the_index() {
    let (home, storage) = home();
    let holds = |word: &[u8]| memchr::memmem::find(&index_bytes(&home), word).is_some();
    let runs: Vec<RunId> = (0..50).map(|number| asked(&storage, &format!("keep zebrafish{number} here"))).collect();
    let gone = asked(&storage, "quokka");
    for run in runs.iter().chain([&gone]) {
        answered(&storage, *run, "done");
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
fn conversations_are_found_by_title_and_by_what_was_said() {
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
        let run_id = asked(&storage, prompt);
        write(&storage, move |tx| tx.link_conversation(id, run_id, at(1))).unwrap();
        answered(&storage, run_id, "it does");
    }
    assert_eq!(found("unicode does"), [id]);
    assert_eq!(found("unicode lexer"), [], "the words are of one text");
    renamed.title = Some("the scanner".to_owned());
    write(&storage, move |tx| tx.update_conversation(&renamed)).unwrap();
    assert_eq!((found("lexer"), found("scanner")), (vec![], vec![id]));
}

#[test]
fn a_row_that_cannot_be_read_hides_no_other() {
    let (home, storage) = home();
    let runs: Vec<RunId> = (0..3).map(|number| asked(&storage, &format!("number {number}"))).collect();
    answered(&storage, runs[1], "an answer");
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    conn.execute("UPDATE run_bodies SET body = '{\"prompt' WHERE run = 1", []).unwrap();
    conn.execute("UPDATE run_events SET payload = '{' WHERE type = 'run.completed'", []).unwrap();
    assert_eq!(found(&storage, "number"), [runs[2], runs[1]]);
}

#[test]
fn a_text_without_end_is_indexed_to_its_limit() {
    let (_home, storage) = home();
    let long = asked(&storage, &format!("{} beyond", "word é ".repeat(100_000)));
    assert_eq!(found(&storage, "word"), [long]);
    assert_eq!(found(&storage, "beyond"), []);
    answered(&storage, long, &format!("{} beyond", "answer é ".repeat(100_000)));
    assert_eq!(found(&storage, "word answer"), [long]);
    assert_eq!(found(&storage, "beyond"), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// Whatever is searched for, it is no error; and every word of a text finds it.
    #[test]
    fn nothing_that_is_typed_is_an_error(
        searches in prop::collection::vec("\\PC{0,40}|[\"*^():{}+ a-c\\-]{0,20}", 1..40),
        words in prop::collection::vec("[a-zA-Z0-9_]{1,12}", 1..20),
    ) {
        let (_home, storage) = home();
        let run = asked(&storage, &words.join(" "));
        for search in &searches {
            found(&storage, search);
        }
        for word in words.iter().filter(|word| word.contains(char::is_alphanumeric)) {
            prop_assert_eq!(found(&storage, word), vec![run]);
        }
    }
}
