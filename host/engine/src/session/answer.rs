//! Checks the answer of a user to an approval.

use serde_json::{Value, json};

use ostler_plugin_host::types as plugin;
use ostler_protocol::methods::AnswerApprovalParams;
use ostler_protocol::{ApiError, Approval, ApprovalKind, Problem, escape_pointer};
use ostler_redaction::KnownSecret;

/// How a redacted value begins: input that contains one cannot be executed.
const PLACEHOLDER: &str = "[REDACTED:";

/// The answer as the plugin gets it.
///
/// # Errors
/// `INVALID_PARAMS` with every member that does not fit the approval.
pub(crate) fn check(approval: &Approval, params: &AnswerApprovalParams) -> Result<plugin::Decision, ApiError> {
    let mut problems = Vec::new();
    let mut wrong = |pointer: &str, message: String| {
        problems.push(Problem { pointer: pointer.to_owned(), message });
    };
    let asks = approval.kind == ApprovalKind::Question;
    let allow = params.allow.unwrap_or(params.answers.is_some());
    if params.allow.is_none() && params.answers.is_none() {
        let needed = if asks { "`answers`, or `allow: false`, is required" } else { "required" };
        wrong(if asks { "/answers" } else { "/allow" }, needed.to_owned());
    }
    match &params.answers {
        Some(_) if !asks => {
            wrong("/answers", format!("this approval is a {}, not a question; use `allow`", approval.kind));
        }
        Some(_) if params.allow == Some(false) => wrong("/answers", "cannot be combined with a denial".to_owned()),
        Some(answers) => {
            let known = |id: &str| approval.questions.iter().any(|question| question.id == id);
            for id in answers.keys().filter(|id| !known(id)) {
                let known: Vec<&str> = approval.questions.iter().map(|question| question.id.as_str()).collect();
                let message = format!("there is no such question; the questions are {}", known.join(", "));
                wrong(&format!("/answers/{}", escape_pointer(id)), message);
            }
            for question in &approval.questions {
                let given = answers.get(&question.id).map_or(&[] as &[String], Vec::as_slice);
                let pointer = format!("/answers/{}", escape_pointer(&question.id));
                match given.len() {
                    0 => wrong(&pointer, "this question has no answer".to_owned()),
                    1 => {}
                    _ if question.multi_select => {}
                    _ => wrong(&pointer, "this question takes one answer".to_owned()),
                }
            }
        }
        None if asks && params.allow == Some(true) => {
            wrong("/answers", "required: a question is answered, not allowed".to_owned());
        }
        None => {}
    }
    if let Some(input) = &params.input {
        let form = approval.kind == ApprovalKind::Elicitation;
        if asks {
            wrong("/input", "a question is answered with `answers`".to_owned());
        } else if !allow {
            wrong("/input", "cannot be combined with a denial".to_owned());
        } else if !approval.editable && !form {
            wrong("/input", "the CLI does not accept another input for this approval".to_owned());
        } else if !input.is_object() {
            wrong("/input", "must be an object".to_owned());
        } else if let Some((pointer, _)) = texts(input).into_iter().find(|(_, text)| text.contains(PLACEHOLDER)) {
            wrong(&format!("/input{pointer}"), "contains a redacted value; write the value itself".to_owned());
        }
    } else if approval.kind == ApprovalKind::Elicitation && allow {
        wrong("/input", "required: the filled-in form".to_owned());
    }
    if allow && params.stop_turn {
        wrong("/stopTurn", "only a denial can end the turn".to_owned());
    }
    if allow && params.message.is_some() {
        wrong("/message", "only a denial has a message".to_owned());
    }
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
    }
    let input = match &params.answers {
        Some(answers) => Some(json!({ "answers": answers })),
        None => params.input.clone(),
    };
    Ok(plugin::Decision {
        allow,
        message: params.message.clone(),
        input: input.map(|input| input.to_string()),
        stop_turn: params.stop_turn,
    })
}

/// The secrets in the answers of a user. The agent may repeat them.
pub(crate) fn secrets(approval: &Approval, params: &AnswerApprovalParams) -> Vec<KnownSecret> {
    let given = |id: &str| params.answers.as_ref().and_then(|answers| answers.get(id)).into_iter().flatten();
    let questions = approval.questions.iter().filter(|question| question.secret);
    let values = questions.flat_map(|question| given(&question.id));
    values.map(|value| KnownSecret { name: "secret-answer".to_owned(), value: value.clone() }).collect()
}

/// Every text of a document with its pointer, in order.
pub(crate) fn texts(value: &Value) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    collect_texts(value, "", &mut found);
    found
}

fn collect_texts<'v>(value: &'v Value, pointer: &str, found: &mut Vec<(String, &'v str)>) {
    match value {
        Value::String(text) => found.push((pointer.to_owned(), text)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_texts(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                collect_texts(member, &format!("{pointer}/{}", escape_pointer(name)), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use jiff::Timestamp;
    use ostler_protocol::{ApprovalId, ApprovalQuestion, RunId};

    use super::*;

    fn approval(kind: ApprovalKind) -> Approval {
        let question = |id: &str, multi_select| ApprovalQuestion {
            id: id.to_owned(),
            question: "Which?".to_owned(),
            multi_select,
            ..ApprovalQuestion::default()
        };
        Approval {
            id: ApprovalId::generate(),
            run_id: RunId::generate(),
            provider: "codex".to_owned(),
            kind,
            title: "t".to_owned(),
            command: None,
            cwd: None,
            diff: None,
            reason: None,
            questions: if kind == ApprovalKind::Question {
                vec![question("one", false), question("many", true)]
            } else {
                Vec::new()
            },
            input: None,
            editable: kind == ApprovalKind::Command,
            opened_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            deny_by_default: false,
        }
    }

    fn answer(kind: ApprovalKind, mut answer: Value) -> Result<plugin::Decision, Vec<String>> {
        let approval = approval(kind);
        answer["runId"] = json!(approval.run_id);
        answer["requestId"] = json!(approval.id);
        let params = serde_json::from_value(answer).unwrap();
        check(&approval, &params).map_err(|error| error.problems.into_iter().map(|found| found.pointer).collect())
    }

    #[test]
    fn accepts_answers_that_fit_the_approval() {
        use ApprovalKind::{Command, Elicitation, Question, Tool};
        let allowed = answer(Command, json!({"allow": true, "input": {"command": "ls"}})).unwrap();
        assert_eq!((allowed.allow, allowed.input.as_deref()), (true, Some(r#"{"command":"ls"}"#)));
        let denied = answer(Tool, json!({"allow": false, "message": "no", "stopTurn": true})).unwrap();
        assert_eq!((denied.allow, denied.message.as_deref(), denied.stop_turn), (false, Some("no"), true));
        let answered = answer(Question, json!({"answers": {"one": ["a"], "many": ["b", "c"]}})).unwrap();
        assert!(answered.allow);
        assert_eq!(answered.input.unwrap(), r#"{"answers":{"many":["b","c"],"one":["a"]}}"#);
        assert!(!answer(Question, json!({"allow": false})).unwrap().allow);
        assert!(answer(Elicitation, json!({"allow": true, "input": {}})).is_ok());
    }

    #[test]
    fn reports_every_member_that_does_not_fit() {
        use ApprovalKind::{Command, Elicitation, Question, Tool};
        let wrong = |kind, given| answer(kind, given).unwrap_err();
        assert_eq!(wrong(Command, json!({})), ["/allow"]);
        assert_eq!(wrong(Question, json!({})), ["/answers"]);
        assert_eq!(wrong(Question, json!({"allow": true})), ["/answers"]);
        assert_eq!(wrong(Command, json!({"answers": {}})), ["/answers"]);
        assert_eq!(
            wrong(Question, json!({"answers": {"x/y": ["a"], "one": ["a", "b"]}})),
            ["/answers/x~1y", "/answers/one", "/answers/many"]
        );
        assert_eq!(wrong(Tool, json!({"allow": true, "input": {}})), ["/input"], "it is not editable");
        assert_eq!(wrong(Command, json!({"allow": true, "input": "ls"})), ["/input"]);
        assert_eq!(wrong(Elicitation, json!({"allow": true})), ["/input"]);
        assert_eq!(
            wrong(Command, json!({"allow": true, "message": "m", "stopTurn": true, "input": {"a": ["[REDACTED:x]"]}})),
            ["/input/a/0", "/stopTurn", "/message"]
        );
        assert_eq!(wrong(Command, json!({"allow": false, "input": {}})), ["/input"]);
    }
}
