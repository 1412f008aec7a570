//! `--json=result`: the result of a run as one object.

use serde_json::{Value, json};

use super::answer;
use super::context::Context;
use super::exit::Exit;
use ostler_client::Client;
use ostler_protocol::{ApiError, RunId, RunRecord};

/// Prints the result of an ended run. `exit` is the exit code of this program.
///
/// # Errors
/// If the run or its answer cannot be read.
pub(super) async fn print(
    context: &mut Context<'_>,
    client: &Client,
    run_id: RunId,
    exit: Exit,
) -> Result<(), ApiError> {
    let run = client.get_run(run_id).await?;
    let mut whole = Vec::new();
    let answered = answer::copy(client, &run, &mut |piece| {
        whole.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    // `copy` adds a line feed to the text of an agent, so prefer the stored text if it is complete.
    let whole = String::from_utf8_lossy(&whole).into_owned();
    let text = run.final_text.clone().filter(|_| !answer::is_cut(&run)).or_else(|| answered.then_some(whole));
    context.out.document(&object(&run, text.as_deref(), exit))
}

fn object(run: &RunRecord, text: Option<&str>, exit: Exit) -> Value {
    let summary = &run.summary;
    let duration = summary.started_at.zip(summary.ended_at);
    let duration = duration.map(|(start, end)| end.as_millisecond().saturating_sub(start.as_millisecond()));
    json!({
        "runId": summary.run_id,
        "status": summary.status,
        "reason": summary.reason,
        "message": summary.message,
        "exitCode": exit.code(),
        "cliExitCode": summary.exit_code,
        "finalText": text,
        "structuredOutput": run.structured_output,
        "usage": run.usage,
        "sessionId": run.session_id,
        "conversationId": summary.conversation_id,
        "provider": summary.provider,
        "model": summary.model,
        "attempt": summary.attempt,
        "durationMs": duration,
        "warnings": run.warnings,
    })
}
