#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ostler_protocol::ApprovalKind;
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use super::super::answers::tests::question;
use super::super::render::tests::approval;
use super::*;

const LOOK: Look = Look { width: 80, color: false, whole: false, more: "d shows all" };

fn now() -> Timestamp {
    "2026-03-05T12:00:10Z".parse().unwrap()
}

fn prompt(approval: Approval) -> Prompt {
    Prompt::new(approval, LOOK, None)
}

fn press(prompt: &mut Prompt, key: &Key) -> PromptAction {
    prompt.key(key, LOOK, Instant::now())
}

fn type_line(prompt: &mut Prompt, text: &str) -> PromptAction {
    for character in text.chars() {
        assert_eq!(press(prompt, &Key::Char(character)), PromptAction::Nothing);
    }
    press(prompt, &Key::Enter)
}

fn sent(action: PromptAction) -> AnswerApprovalParams {
    match action {
        PromptAction::Send(answer) => *answer,
        other => panic!("{other:?}"),
    }
}

fn footer(prompt: &Prompt, width: usize, others: usize) -> String {
    prompt.footer(Look { width, ..LOOK }, now(), others).rows.join("\n")
}

#[test]
fn keys_allow_deny_and_stop() {
    let allowed = sent(press(&mut prompt(approval(ApprovalKind::Command)), &Key::Char('y')));
    assert_eq!((allowed.allow, allowed.stop_turn), (Some(true), false));
    let stopped = sent(press(&mut prompt(approval(ApprovalKind::Command)), &Key::Char('S')));
    assert_eq!((stopped.allow, stopped.stop_turn), (Some(false), true));
    let mut one = prompt(approval(ApprovalKind::Command));
    assert_eq!(press(&mut one, &Key::Char('n')), PromptAction::Nothing);
    let denied = sent(type_line(&mut one, "use make "));
    assert_eq!((denied.allow, denied.message.as_deref()), (Some(false), Some("use make")));
    assert_eq!(press(&mut one, &Key::Char('y')), PromptAction::Nothing, "the answer is on its way");
    let mut one = prompt(approval(ApprovalKind::Command));
    press(&mut one, &Key::Char('n'));
    assert_eq!(sent(press(&mut one, &Key::Enter)).message, None, "the reason is optional");
}

#[test]
fn other_keys_decide_nothing() {
    let mut one = prompt(approval(ApprovalKind::Command));
    let keys = [Key::Enter, Key::Char('x'), Key::Char('e'), Key::Paste("y".to_owned()), Key::Escape, Key::Ctrl('d')];
    for key in keys {
        assert_eq!(press(&mut one, &key), PromptAction::Nothing, "{key:?}");
    }
    press(&mut one, &Key::Char('n'));
    press(&mut one, &Key::Escape);
    assert!(sent(press(&mut one, &Key::Char('y'))).allow.unwrap(), "Escape returns from the reason");
}

#[test]
fn enter_denies_only_if_denial_is_proposed() {
    let mut one = prompt(Approval { deny_by_default: true, ..approval(ApprovalKind::Command) });
    assert!(footer(&one, 80, 0).contains("n or Enter no"));
    assert_eq!(press(&mut one, &Key::Enter), PromptAction::Nothing);
    assert_eq!(sent(press(&mut one, &Key::Enter)).allow, Some(false));
}

#[test]
fn footer_fits_every_width() {
    let one =
        prompt(Approval { editable: true, input: Some(json!({"command": "ls"})), ..approval(ApprovalKind::Command) });
    insta::assert_snapshot!(footer(&one, 120, 2), @"Allow?  y yes · n no · e edit · s no, and stop the turn · d details · 4m50s left · 2 more");
    insta::assert_snapshot!(footer(&one, 40, 0), @r"
    Allow?  y yes · n no · e edit
    s no, and stop the turn · d details
    4m50s left
    ");
    for width in 12..100 {
        let shown = one.footer(Look { width, color: true, ..LOOK }, now(), 1);
        for row in shown.rows {
            let plain = anstream::adapter::strip_str(&row).to_string();
            assert!(plain.width() <= width, "{width}: {plain}");
        }
    }
}

#[test]
fn details_show_everything() {
    let diff: String = (0..100).map(|line| format!("+{line}\n")).collect();
    let mut one = prompt(Approval { diff: Some(diff), ..approval(ApprovalKind::Patch) });
    assert!(!one.take_output().contains("+99"));
    press(&mut one, &Key::Char('d'));
    assert!(one.take_output().contains("+99"));
}

#[test]
fn questions_are_answered_one_after_the_other() {
    let secret = ApprovalQuestion { secret: true, ..question("token", &[], false) };
    let questions = vec![question("db", &["SQLite", "Postgres"], false), secret];
    let mut one = prompt(Approval { questions, ..approval(ApprovalKind::Question) });
    assert!(one.take_output().contains("1/2 Which?\n  1. SQLite\n  2. Postgres\n"));
    assert_eq!(type_line(&mut one, "3"), PromptAction::Nothing);
    assert!(footer(&one, 80, 0).starts_with("the choices are 1 to 2\n"), "{}", footer(&one, 80, 0));
    assert_eq!(type_line(&mut one, "2"), PromptAction::Nothing);
    assert!(one.take_output().contains("answer: Postgres\n2/2 Which?"));
    for character in "hunter2".chars() {
        press(&mut one, &Key::Char(character));
        assert!(!footer(&one, 80, 0).contains("hunt"), "a secret is not shown");
    }
    let answers = sent(press(&mut one, &Key::Enter)).answers.unwrap();
    assert_eq!(answers["db"], ["Postgres"]);
    assert_eq!(answers["token"], ["hunter2"]);
    let output = one.take_output();
    assert!(output.contains("(not shown)") && !output.contains("hunter2"), "{output}");
}

#[test]
fn question_can_be_declined() {
    let mut one = prompt(Approval { questions: vec![question("q", &[], false)], ..approval(ApprovalKind::Question) });
    press(&mut one, &Key::Escape);
    assert!(footer(&one, 80, 0).starts_with("Answer?  a answer · n decline"), "{}", footer(&one, 80, 0));
    assert_eq!(press(&mut one, &Key::Char('a')), PromptAction::Nothing);
    press(&mut one, &Key::Ctrl('d'));
    press(&mut one, &Key::Char('n'));
    assert_eq!(sent(press(&mut one, &Key::Enter)).allow, Some(false));
}

#[test]
fn form_is_filled_in_field_by_field() {
    let schema = json!({"type": "object", "required": ["size"],
        "properties": {"size": {"type": "integer"}, "note": {"type": "string"}}});
    let mut one = prompt(Approval { input: Some(schema), ..approval(ApprovalKind::Elicitation) });
    press(&mut one, &Key::Char('a'));
    let first = one.take_output();
    for _ in 0..2 {
        if footer(&one, 80, 0).contains("your answer") {
            type_line(&mut one, "x");
        }
    }
    assert!(first.contains("1/2"), "{first}");
    let mut one = prompt(Approval {
        input: Some(json!({"type": "object", "required": ["size"], "properties": {"size": {"type": "integer"}}})),
        ..approval(ApprovalKind::Elicitation)
    });
    press(&mut one, &Key::Char('a'));
    assert_eq!(type_line(&mut one, "big"), PromptAction::Nothing);
    assert_eq!(sent(type_line(&mut one, "7")).input, Some(json!({"size": 7})));
}

#[test]
fn edited_input_must_be_a_changed_object() {
    let editable =
        Approval { editable: true, input: Some(json!({"command": "ls"})), ..approval(ApprovalKind::Command) };
    let mut one = prompt(editable);
    let PromptAction::Edit(text) = press(&mut one, &Key::Char('e')) else { panic!("it is editable") };
    assert_eq!(one.edited(&text, text.clone()), PromptAction::Nothing);
    assert!(footer(&one, 80, 0).contains("nothing was changed"));
    assert_eq!(one.edited(&text, "{".to_owned()), PromptAction::Nothing);
    assert!(footer(&one, 80, 0).contains("not valid JSON"));
    assert_eq!(press(&mut one, &Key::Char('e')), PromptAction::Edit("{".to_owned()), "the edited text is kept");
    let answer = sent(one.edited("{", r#"{"command": "ls -l"}"#.to_owned()));
    assert_eq!((answer.allow, answer.input), (Some(true), Some(json!({"command": "ls -l"}))));
    one.rejected("the CLI does not accept it".to_owned());
    assert!(footer(&one, 80, 0).starts_with("the CLI does not accept it\nAllow?"));
}

#[test]
fn keys_of_a_user_who_is_typing_are_ignored() {
    let start = Instant::now();
    let mut one = Prompt::new(approval(ApprovalKind::Command), LOOK, Some(start));
    assert!(footer(&one, 100, 0).contains("when you stop typing"));
    let later = |milliseconds| start + Duration::from_millis(milliseconds);
    for at in [100, 500, 1100] {
        assert_eq!(one.key(&Key::Char('y'), LOOK, later(at)), PromptAction::Nothing, "{at}");
    }
    assert!(matches!(one.key(&Key::Char('y'), LOOK, later(1900)), PromptAction::Send(_)));
}
