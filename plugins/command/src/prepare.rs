//! The command line of a run.

use ostler_plugin::provider::{Channel, Launch, OutputForm, RunRequest, StopSignal};
use ostler_plugin::{Error, Problems};
use ostler_provider_kit::argument::argument_problem;
use ostler_provider_kit::payload::Payload;
use ostler_provider_kit::prompt;

use crate::dropped;
use crate::settings::{Settings, StopBy};
use crate::template::{Group, Placeholder};

pub(crate) fn prepare(settings: &Settings, args: &[Group], request: &RunRequest) -> Result<Launch, Error> {
    let payload = Payload::parse(&request.payload)?;
    let mut problems = Problems::default();
    if request.prompt.trim().is_empty() {
        problems.push("/prompt", "is blank");
    }
    let arguments = arguments(args, request, &mut problems);
    problems.into_result()?;
    let piped = payload.harness.piped_content.as_deref().filter(|piped| !piped.is_empty());
    // A program that gets its prompt as an argument can read piped content from standard input.
    let stdin = if mentions(args, Placeholder::Prompt) {
        piped.map(str::to_owned)
    } else {
        Some(prompt::compose(&request.prompt, &[], piped))
    };
    Ok(Launch {
        args: arguments,
        stdin: stdin.map(String::into_bytes),
        output: OutputForm::Text,
        stop: stop_signal(settings),
        dropped: dropped::options(args, request, &payload),
        ..Launch::default()
    })
}

/// The command line of a session, in a terminal. A prompt that is no argument is typed.
pub(crate) fn session(settings: &Settings, args: &[Group], request: &RunRequest) -> Result<Launch, Error> {
    let payload = Payload::parse(&request.payload)?;
    let mut problems = Problems::default();
    let arguments = arguments(args, request, &mut problems);
    if payload.harness.piped_content.as_deref().is_some_and(|piped| !piped.is_empty()) {
        problems.push("/harness/pipedContent", "cannot be passed to a program in a terminal; put it into a file");
    }
    problems.into_result()?;
    Ok(Launch {
        args: arguments,
        channel: Channel::Pty,
        stop: stop_signal(settings),
        dropped: dropped::options(args, request, &payload),
        ..Launch::default()
    })
}

fn stop_signal(settings: &Settings) -> StopSignal {
    match settings.stop {
        StopBy::Interrupt => StopSignal::Interrupt,
        StopBy::Terminate => StopSignal::Terminate,
    }
}

/// Whether the arguments contain this placeholder.
pub(crate) fn mentions(args: &[Group], placeholder: Placeholder) -> bool {
    args.iter().flatten().any(|template| template.count(placeholder) > 0)
}

fn arguments(args: &[Group], request: &RunRequest, problems: &mut Problems) -> Vec<String> {
    let value = |placeholder: Placeholder| match placeholder {
        // A session can begin without a prompt.
        Placeholder::Prompt => Some(request.prompt.as_str()).filter(|prompt| !prompt.trim().is_empty()),
        Placeholder::Model => request.model.as_deref(),
        Placeholder::Cwd => Some(request.cwd.as_str()),
        Placeholder::Session => request.resume_session.as_deref(),
    };
    let mut out = Vec::new();
    let mut guarded = false;
    for group in args {
        let Some(filled) = group.iter().map(|template| template.fill(value)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        for (template, argument) in group.iter().zip(filled) {
            let pointer = template.leading().map_or("/prompt", Placeholder::pointer);
            if template.leading().is_some() && !guarded && argument.starts_with('-') {
                problems.push(
                    pointer,
                    "begins with `-`, and the program could parse it as a flag; put `--` before its placeholder in `settings.args`, or pass the prompt on standard input",
                );
            }
            if let Some(reason) = argument_problem(&argument) {
                problems.push(pointer, format!("{reason}, or pass the prompt on standard input (`settings.prompt`)"));
            }
            guarded |= template.is_end_of_flags();
            out.push(argument);
        }
    }
    out
}
