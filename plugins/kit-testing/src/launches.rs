//! Requests, and assertions about their launches.

use ostler_plugin::Error;
use ostler_plugin::provider::{Attachment, Launch, RunMode, RunRequest};
use serde_json::{Value, json};

/// A request with this payload, the prompt `do it`, and the private folder `/private/`.
#[must_use]
pub fn request(payload: &Value) -> RunRequest {
    RunRequest {
        prompt: "do it".to_owned(),
        private_dir: "/private/".to_owned(),
        payload: payload.to_string(),
        ..RunRequest::default()
    }
}

/// A request for a session in a terminal.
#[must_use]
pub fn in_a_terminal(prompt: &str, payload: &Value) -> RunRequest {
    let mut request = RunRequest { mode: RunMode::Interactive, prompt: prompt.to_owned(), ..request(payload) };
    request.host.extra = Some(json!({"terminal": true}).to_string());
    request
}

/// An attachment of one byte.
#[must_use]
pub fn attachment(name: &str, mime_type: &str, path: &str) -> Attachment {
    Attachment { name: name.to_owned(), mime_type: mime_type.to_owned(), path: path.to_owned(), size: 1 }
}

/// The pointers of all problems of a refused request.
#[must_use]
pub fn problems(result: Result<Launch, Error>) -> Vec<String> {
    match result {
        Err(Error::Invalid(problems)) => problems.into_iter().map(|problem| problem.pointer).collect(),
        other => panic!("{other:?}"),
    }
}

/// Whether a launch has this argument.
#[must_use]
pub fn has(launch: &Launch, argument: &str) -> bool {
    launch.args.iter().any(|arg| arg == argument)
}

/// The contents of a private file.
#[must_use]
pub fn file<'a>(launch: &'a Launch, path: &str) -> &'a str {
    let file =
        launch.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}: {:?}", launch.files));
    std::str::from_utf8(&file.contents).unwrap()
}

/// The dropped options: their pointers, and whether they restrict the agent.
#[must_use]
pub fn dropped(launch: &Launch) -> Vec<(&str, bool)> {
    launch.dropped.iter().map(|option| (option.pointer.as_str(), option.restricts)).collect()
}
