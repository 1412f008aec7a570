//! `ostler approvals allow`, `deny`, `answer`

use std::io::{self, IsTerminal};
use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::super::approval::{Given, of_arguments};
use super::super::context::Context;
use super::super::exit::Exit;
use super::super::{clean, format, ids, input};
use ostler_client::Client;
use ostler_protocol::methods::AnswerApprovalParams;
use ostler_protocol::{
    Answers, ApiError, Approval, ApprovalDecision, ApprovalKind, ApprovalQuestion, ApprovalVerdict, ErrorKind, Problem,
};

/// Allow what an agent wants to do
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler approvals allow 1a2b3c4d\n  \
    ostler approvals allow 1a2b3c4d --input '{\"command\": \"cargo test\"}'\n  \
    ostler approvals allow 1a2b3c4d --input @form.json          fills in a form\n\n\
    `ostler approvals show` has the input that --input replaces, or the schema of the form.")]
pub(super) struct Allow {
    /// Approval id, the beginning or end of one
    #[arg(value_name = "ID")]
    approval: String,
    /// Use this input of the tool instead, if it can be edited: a JSON object, or `@FILE` (`@-`: standard input)
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
}

pub(super) async fn allow(context: &mut Context<'_>, arguments: &Allow) -> Result<Exit, ApiError> {
    let given = arguments.input.as_deref().map(read_input).transpose()?;
    let client = context.client().await?;
    let approval = ids::approval(&client, &arguments.approval).await?;
    let id = format::short_id(approval.id);
    if approval.kind == ApprovalKind::Question {
        let message = "the agent asks a question, which needs an answer";
        let hint = format!("`ostler approvals answer {id} TEXT`; `ostler approvals show {id}` shows the question");
        return Err(ApiError::new(ErrorKind::InvalidParams, message).hint(hint));
    }
    decide(context, &client, &approval, AnswerApprovalParams { input: given, ..params(&approval, Some(true)) }).await
}

/// Reads JSON from the argument, or from a file for `@FILE`.
fn read_input(text: &str) -> Result<Value, ApiError> {
    if let Some(path) = text.strip_prefix('@') {
        return input::json("input", Path::new(path));
    }
    serde_json::from_str(text)
        .map_err(|error| ApiError::new(ErrorKind::InvalidParams, format!("is not valid JSON: {error}")).at("/input"))
}

/// Deny what an agent wants to do, or decline to answer
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler approvals deny 1a2b3c4d\n  \
    ostler approvals deny 1a2b3c4d --message \"only in the folder tests\"\n  \
    ostler approvals deny 1a2b3c4d --stop-turn")]
pub(super) struct Deny {
    /// Approval id, the beginning or end of one
    #[arg(value_name = "ID")]
    approval: String,
    /// Reason, for the agent
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Also end the current turn of the agent
    #[arg(long)]
    stop_turn: bool,
}

pub(super) async fn deny(context: &mut Context<'_>, arguments: Deny) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let approval = ids::approval(&client, &arguments.approval).await?;
    let (message, stop_turn) = (arguments.message, arguments.stop_turn);
    let answer = AnswerApprovalParams { message, stop_turn, ..params(&approval, Some(false)) };
    decide(context, &client, &approval, answer).await
}

/// Answer the questions of an agent
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler approvals answer 1a2b3c4d Postgres\n  \
    ostler approvals answer 1a2b3c4d 2                        the second choice\n  \
    ostler approvals answer 1a2b3c4d database=2 name=\"my app\"  several questions\n  \
    pass show api-key | ostler approvals answer 1a2b3c4d -\n\n\
    An answer is the number or the text of a choice, or another text. QUESTION is the id or the number of a question. \
    An answer `-` is typed, or read from standard input; secrets are accepted only in this way.")]
pub(super) struct Answer {
    /// Approval id, the beginning or end of one
    #[arg(value_name = "ID")]
    approval: String,
    /// Answers, in the order of the questions or with their names
    #[arg(value_name = "[QUESTION=]TEXT")]
    answers: Vec<String>,
}

pub(super) async fn answer(context: &mut Context<'_>, arguments: &Answer) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let approval = ids::approval(&client, &arguments.approval).await?;
    let id = format::short_id(approval.id);
    if approval.kind != ApprovalKind::Question {
        let message = format!("the approval is about a {}, not a question", approval.kind);
        let hint = match approval.kind {
            ApprovalKind::Elicitation => format!("`ostler approvals allow {id} --input JSON` fills in the form"),
            _ => format!("`ostler approvals allow {id}` or `ostler approvals deny {id}`"),
        };
        return Err(ApiError::new(ErrorKind::InvalidParams, message).hint(hint));
    }
    let given = of_arguments(&approval.questions, &arguments.answers).map_err(|problems| {
        let problem = |message| Problem { pointer: "/answers".to_owned(), message };
        ApiError::invalid(problems.into_iter().map(problem).collect())
            .hint(format!("`ostler approvals show {id}` shows the questions"))
    })?;
    if given.iter().filter(|(_, given)| *given == Given::FromInput).count() > 1 && !io::stdin().is_terminal() {
        let message = "only one answer can be read from standard input";
        return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/answers"));
    }
    let mut answers = Answers::new();
    for (question, given) in given {
        let texts = match given {
            Given::Answer(texts) => texts,
            Given::FromInput => {
                let asked = approval.questions.iter().find(|asked| asked.id == question);
                vec![read_answer(asked)?]
            }
        };
        answers.insert(question, texts);
    }
    let answer = AnswerApprovalParams { answers: Some(answers), ..params(&approval, None) };
    decide(context, &client, &approval, answer).await
}

/// Reads an answer: typed on a terminal without showing it if it is a secret, else from standard input.
fn read_answer(question: Option<&ApprovalQuestion>) -> Result<String, ApiError> {
    let failed = |error: io::Error| ApiError::new(ErrorKind::Io, format!("failed to read the answer: {error}"));
    let text = if io::stdin().is_terminal() {
        let shown = question.map(|question| clean::line(&question.question)).unwrap_or_default();
        if question.is_some_and(|question| question.secret) {
            rpassword::prompt_password(format!("{shown} (not shown): ")).map_err(failed)?
        } else {
            super::super::ask::line(&format!("{shown}: ")).map_err(failed)?
        }
    } else {
        input::stdin_text("answer")?
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text).to_owned();
    if text.is_empty() {
        return Err(ApiError::new(ErrorKind::InvalidParams, "the answer is empty").at("/answers"));
    }
    Ok(text)
}

fn params(approval: &Approval, allow: Option<bool>) -> AnswerApprovalParams {
    AnswerApprovalParams {
        run_id: approval.run_id,
        request_id: approval.id,
        allow,
        message: None,
        input: None,
        answers: None,
        stop_turn: false,
    }
}

async fn decide(
    context: &mut Context<'_>,
    client: &Client,
    approval: &Approval,
    answer: AnswerApprovalParams,
) -> Result<Exit, ApiError> {
    let decision = client.answer_approval(&answer).await?;
    if context.json {
        context.out.document(&decision)?;
    } else {
        let word = word(&decision, approval.kind);
        context.out.line(format!("{word}: {}", clean::line(&approval.title)))?;
    }
    Ok(Exit::Done)
}

fn word(decision: &ApprovalDecision, kind: ApprovalKind) -> &'static str {
    match (decision.decision, kind) {
        (ApprovalVerdict::Allow, ApprovalKind::Question | ApprovalKind::Elicitation) => "answered",
        (ApprovalVerdict::Allow, _) if decision.edited => "allowed with another input",
        (ApprovalVerdict::Allow, _) => "allowed",
        (ApprovalVerdict::Deny, ApprovalKind::Question | ApprovalKind::Elicitation) => "declined",
        (ApprovalVerdict::Deny, _) => "denied",
    }
}
