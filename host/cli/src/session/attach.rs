//! `ostler session attach`, and what other commands do to attach.

use clap::Args;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::output::complain;
use super::super::signals::Signals;
use super::super::terminal::Keyboard;
use super::super::{follow, format, ids};
use super::console::{self, Console};
use super::list::has_prompt;
use super::terminal_view;
use ostler_client::Client;
use ostler_protocol::methods::RunEventsParams;
use ostler_protocol::{ApiError, Approval, ErrorKind, Event, EventType, RunId, RunMode, RunRecord};

/// Events of an open session that are read to show its last exchange.
const HISTORY: u32 = 300;

const EXAMPLES: &str = "\
Examples:
  ostler session attach 1a2b3c4d                the last exchange, and what follows
  ostler session attach @                       the newest session
  ostler session attach --from-start 1a2b3c4d   everything since its start

Keys: Enter sends the message, Alt-Enter or Ctrl-J begins a new line. Ctrl-C interrupts the turn; a second one within two \
seconds, or one without a turn, leaves. Ctrl-D and Ctrl-\\ leave as well. The session stays open. `/end` ends it, `/help` \
lists the keys.

In a session that runs in a terminal, all keys go to the CLI, only Ctrl-\\ leaves. All who are attached see the same \
terminal; it has the size of the one that was attached or resized last.

Without a terminal, it follows the session as `ostler attach` does.";

/// Attach to an open session: show what the agent does, answer it, and send messages
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id of the session, the beginning or end of one, or `@` for the newest session
    run: String,
    /// Show everything since the start of the session
    #[arg(long)]
    from_start: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let mut signals = Signals::listen()?;
    let prepare = async {
        let client = context.client().await?;
        let run_id = ids::session(&client, &arguments.run).await?;
        let cursor = client.get_status().await?.cursor;
        Ok::<_, ApiError>((client.get_run(run_id).await?, client, cursor))
    };
    let (run, client, cursor) = tokio::select! {
        prepared = prepare => prepared?,
        () = signals.next() => return Ok(Exit::Canceled),
    };
    let id = format::short_id(run.summary.run_id);
    if run.summary.mode != RunMode::Interactive {
        let message = format!("run {id} is not a session");
        return Err(ApiError::new(ErrorKind::Conflict, message).hint(format!("`ostler attach {id}` follows it")));
    }
    if run.summary.status.ended() {
        let message = format!("the session of run {id} has ended ({})", run.summary.status);
        let hint = format!("`ostler session resume {id}` continues it, `ostler logs {id}` shows it");
        return Err(ApiError::new(ErrorKind::Conflict, message).hint(hint));
    }
    if can_converse(context) {
        return attach_to(context, &client, &run, cursor, arguments.from_start, &mut signals).await;
    }
    let options = follow::Options {
        on_interrupt: follow::OnInterrupt::Leave,
        ..follow::Options::new(&run.summary.provider, false)
    };
    follow::follow(context, &client, run.summary.run_id, &mut signals, options).await
}

/// Whether a conversation is possible: the output is a terminal that can move its cursor, and keys can be read.
pub(in super::super) fn can_converse(context: &Context<'_>) -> bool {
    !context.json && context.out.stdout_terminal && context.out.cursor && Keyboard::is_available()
}

/// Attaches to an open session at a terminal. `cursor`: that of the host before the run was read.
pub(in super::super) async fn attach_to(
    context: &mut Context<'_>,
    client: &Client,
    run: &RunRecord,
    cursor: u64,
    from_start: bool,
    signals: &mut Signals,
) -> Result<Exit, ApiError> {
    let history = History::of_run(client, run, cursor, from_start).await?;
    enter(context, client, run, signals, history).await
}

/// Attaches to a session that a call has just opened, or found open. `message`: the first message.
pub(super) async fn attach_to_opened(
    context: &mut Context<'_>,
    client: &Client,
    run_id: RunId,
    found: bool,
    message: Option<String>,
    signals: &mut Signals,
) -> Result<Exit, ApiError> {
    let cursor = client.get_status().await?.cursor;
    let run = client.get_run(run_id).await?;
    let history = if found {
        History::of_run(client, &run, cursor, false).await?
    } else {
        History { message, prompted: has_prompt(&run), ..History::default() }
    };
    enter(context, client, &run, signals, history).await
}

async fn enter(
    context: &mut Context<'_>,
    client: &Client,
    run: &RunRecord,
    signals: &mut Signals,
    history: History,
) -> Result<Exit, ApiError> {
    let Some(keyboard) = Keyboard::open() else {
        complain("the terminal cannot be read");
        return Ok(Exit::Io);
    };
    if terminal_view::has_terminal(run) {
        return terminal_view::run(context, client, run, keyboard, signals, history).await;
    }
    let console = Console::new(context, client, &run.summary, keyboard.size());
    console::run(console, context, keyboard, signals, history).await
}

/// What happened in a session before the user attached.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The first message, if it is shown before the events.
    pub(super) message: Option<String>,
    /// The session began with a message.
    pub(super) prompted: bool,
    /// Events to show.
    pub(super) events: Vec<Event>,
    /// The cursor after which events are followed.
    pub(super) after: Option<u64>,
    /// Followed events up to this cursor are history as well.
    pub(super) until: Option<u64>,
    /// What the agent waits for.
    pub(super) approvals: Vec<Approval>,
}

impl History {
    async fn of_run(client: &Client, run: &RunRecord, cursor: u64, from_start: bool) -> Result<Self, ApiError> {
        let run_id = run.summary.run_id;
        let params = RunEventsParams { run_id, after: None, before: Some(cursor + 1), limit: Some(HISTORY) };
        let page = client.get_run_events(&params).await?;
        let prompted = has_prompt(run);
        let prompt = run.payload.get("prompt").and_then(serde_json::Value::as_str).map(str::to_owned);
        let prompt = prompt.filter(|_| prompted);
        let approvals = client.list_approvals(Some(run_id)).await?;
        if from_start {
            let until = page.events.last().map(|event| event.cursor);
            return Ok(Self { message: prompt, prompted, until, approvals, ..Self::default() });
        }
        if terminal_view::has_terminal(run) {
            return Ok(Self { events: page.events, after: Some(cursor), ..Self::default() });
        }
        let (skipped, events) = last_exchange(page.events);
        let message = prompt.filter(|_| !skipped && !page.more);
        Ok(Self { message, prompted, events, after: Some(cursor), until: None, approvals })
    }
}

/// The events from the last message of a user on, and whether there are earlier ones.
fn last_exchange(mut events: Vec<Event>) -> (bool, Vec<Event>) {
    let last = events.iter().rposition(|event| event.kind == EventType::SessionInputAccepted).unwrap_or(0);
    (last > 0, events.split_off(last))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::event;

    #[test]
    fn last_exchange_begins_with_the_last_message() {
        let kinds = |kinds: &[EventType]| kinds.iter().map(|kind| event(*kind, json!({}))).collect::<Vec<_>>();
        use EventType::{RunStarted, Semantic, SessionInputAccepted};
        let (skipped, shown) =
            last_exchange(kinds(&[RunStarted, SessionInputAccepted, Semantic, SessionInputAccepted, Semantic]));
        assert_eq!((skipped, shown.len()), (true, 2));
        let (skipped, shown) = last_exchange(kinds(&[RunStarted, Semantic]));
        assert_eq!((skipped, shown.len()), (false, 2));
    }
}
