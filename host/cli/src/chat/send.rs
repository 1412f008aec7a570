//! `ostler chat send`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::context::{Context, current_folder};
use super::super::exit::Exit;
use super::super::ids;
use super::super::options::StartArguments;
use super::super::payload;
use super::super::profiles;
use super::super::schedule::ScheduleArguments;
use super::super::submit::{self, Request, SubmitOptions};
use ostler_protocol::methods::GetConversationParams;
use ostler_protocol::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler chat send 1a2b3c4d \"what does it do?\"
  ostler chat send 1a2b3c4d --file next.md --timeout 20m
  ostler chat send 1a2b3c4d --detach \"then run the tests\"     runs after the message before it

A conversation works in the folder of its first message, by default the current one.

Ctrl-C cancels the message and waits for its end; a second one exits without waiting.";

/// Send a message and show the answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Conversation id, the beginning or end of one, or `@` for the newest
    chat: String,
    #[command(flatten)]
    start: StartArguments,
    #[command(flatten)]
    schedule: ScheduleArguments,
    #[command(flatten)]
    submit_options: SubmitOptions,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let output = arguments.submit_options.output(context)?;
    let payload_args = arguments.start.gather(false, arguments.submit_options.is_quiet(context))?;
    let (names_folder, here) = (payload_args.names_folder(), current_folder());
    let mut params = payload::message(payload_args)?;
    submit::execute(context, &arguments.submit_options, output, async |client| {
        let conversation_id = ids::conversation(client, &arguments.chat).await?;
        arguments.schedule.apply(client, &mut params).await?;
        let wanted = GetConversationParams { conversation_id, limit: Some(1), offset: None };
        let conversation = client.get_conversation(&wanted).await?.conversation;
        params["conversationId"] = json!(conversation_id);
        let of_profile = profiles::of_payload(client, &params).await?.as_ref().and_then(profiles::folder);
        // Only the first message needs a folder; later ones use that of the conversation.
        if !names_folder && conversation.cwd.is_none() && of_profile.is_none() {
            params["cwd"] = text(&here?)?.into();
        }
        let named = params.get("cwd").and_then(Value::as_str).map(PathBuf::from);
        let folder = named.or(conversation.cwd).or(of_profile);
        Ok(Request { method: "send_conversation_message", params, provider: conversation.provider, folder })
    })
    .await
}

fn text(folder: &std::path::Path) -> Result<String, ApiError> {
    folder.to_str().map(str::to_owned).ok_or_else(|| {
        let message = "the name of the current folder is not valid UTF-8";
        ApiError::new(ErrorKind::InvalidParams, message).at("/cwd")
    })
}
