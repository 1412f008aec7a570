//! The start payload as a provider reads it.
//!
//! The host has validated the document, so these types are lenient: a field that is missing is none, a field that this
//! version does not know is passed over.

use std::collections::BTreeMap;

use ostler_plugin::Error;
use ostler_plugin::provider::{Attachment, RunRequest};
use ostler_plugin::types::Problem;
use serde::Deserialize;
use serde_json::Value;

/// What a run is asked to do, as far as a command line can depend on it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Payload {
    /// `text`, `json` or `stream-json`.
    pub output_format: Option<String>,
    /// Flags of the CLI, each with its value.
    pub optional_flags: BTreeMap<String, FlagValue>,
    /// What the agent may use, and how.
    pub harness: Harness,
}

/// The value of an optional flag.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum FlagValue {
    /// Given without a value; `false` leaves it out.
    Switch(bool),
    /// The flag once for each value.
    List(Vec<FlagScalar>),
    /// One value.
    One(FlagScalar),
}

/// One value of a flag.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum FlagScalar {
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
}

impl std::fmt::Display for FlagScalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// The harness block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Harness {
    /// Go on from the newest session of the working folder.
    pub continue_session: Option<bool>,
    /// `text` or `stream-json`.
    pub input_format: Option<String>,
    /// Further folders that the agent may work in.
    pub additional_directories: Vec<String>,
    /// The only tools that the agent may use; none is 'no restriction'.
    pub tools: Option<Vec<String>>,
    /// What the agent may do without asking.
    pub permissions: Permissions,
    /// Bounds of the run.
    pub limits: Limits,
    /// MCP servers.
    pub mcp: Mcp,
    /// What the answer must look like.
    pub structured_output: Option<StructuredOutput>,
    /// Replaces the CLI's own system prompt.
    pub system_prompt: Option<String>,
    /// Goes after the CLI's system prompt.
    pub append_system_prompt: Option<String>,
    /// Text that the agent gets beside the prompt.
    pub piped_content: Option<String>,
    /// Images for the model.
    pub images: Vec<AttachmentName>,
    /// Files for the model.
    pub files: Vec<AttachmentName>,
    /// Variables of the child's environment; the host sets them.
    pub process_env: BTreeMap<String, String>,
    /// The only programs on the child's PATH; the host sees to it.
    pub cli_allowlist: Option<Value>,
    /// What every shell of the child runs first; the host sees to it.
    pub shell_prelude: Option<Value>,
}

/// The permissions block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Permissions {
    /// `read-only`, `workspace-write` or `full-access`.
    pub sandbox_mode: Option<String>,
    /// Tools run without a question.
    pub auto_approve: Option<bool>,
    /// Whether the agent's tools reach the network.
    pub network_access: Option<bool>,
    /// `untrusted`, `on-failure`, `on-request` or `never`.
    pub approval_policy: Option<String>,
}

/// The limits block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// US dollars.
    pub max_budget_usd: Option<f64>,
    /// Turns of the model.
    pub max_turns: Option<u64>,
    /// Lines of a tool's result that are kept; the host trims.
    pub max_tool_result_lines: Option<u64>,
}

/// MCP servers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mcp {
    /// The servers, in the payload's order.
    pub servers: Vec<McpServer>,
}

/// One MCP server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct McpServer {
    /// Its name.
    pub name: String,
    /// `stdio`, `http` or `sse`; see [`McpServer::transport`].
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The program (stdio).
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its address (http, sse).
    pub url: Option<String>,
    /// HTTP headers.
    pub headers: BTreeMap<String, String>,
    /// The only tools of it that may be used.
    pub enabled_tools: Option<Vec<String>>,
    /// Tools of it that may not be used.
    pub disabled_tools: Option<Vec<String>>,
    /// `false` leaves it out.
    pub enabled: Option<bool>,
}

impl McpServer {
    /// `stdio`, `http` or `sse`: as stated, else by what there is.
    #[must_use]
    pub fn transport(&self) -> &str {
        match &self.kind {
            Some(kind) => kind,
            None if self.command.is_none() && self.url.is_some() => "http",
            None => "stdio",
        }
    }
}

/// What the answer must look like.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StructuredOutput {
    /// JSON Schema of the answer.
    pub schema: Value,
}

/// An image or file as the payload names it; where it lies, the request's attachments say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentName {
    /// File name.
    pub name: String,
    /// Its media type.
    pub mime_type: String,
}

impl Payload {
    /// Reads the payload of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the document is not a start payload.
    pub fn parse(document: &str) -> Result<Self, Error> {
        // `null` in place of a block means that it is missing; serde's `default` is for missing keys only.
        let mut value: Value = serde_json::from_str(document).map_err(|error| invalid("", &error.to_string()))?;
        if !value.is_object() {
            return Err(invalid("", "is not an object"));
        }
        drop_nulls(&mut value);
        serde_json::from_value(value).map_err(|error| invalid("", &format!("is not a start payload: {error}")))
    }
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        for (key, value) in map.iter_mut() {
            // A schema is the user's own document, in which null means null.
            if key != "schema" {
                drop_nulls(value);
            }
        }
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(drop_nulls);
    }
}

/// An attachment with its place in the payload.
#[derive(Clone, Debug)]
pub struct Placed<'a> {
    /// JSON Pointer of its entry.
    pub pointer: String,
    /// Whether the payload gives it as an image.
    pub image: bool,
    /// What the host laid out.
    pub attachment: &'a Attachment,
}

/// The attachments of a request with their pointers. The host gives them in the payload's order, images first; each is
/// matched by name and media type, so that another order does no harm.
#[must_use]
pub fn attachments<'a>(request: &'a RunRequest, harness: &Harness) -> Vec<Placed<'a>> {
    let mut slots: Vec<(bool, usize, &AttachmentName, bool)> = Vec::new();
    slots.extend(harness.images.iter().enumerate().map(|(index, entry)| (true, index, entry, false)));
    slots.extend(harness.files.iter().enumerate().map(|(index, entry)| (false, index, entry, false)));
    let mut placed = Vec::new();
    for attachment in &request.attachments {
        let slot = slots.iter_mut().find(|(_, _, entry, taken)| {
            !taken && entry.name == attachment.name && entry.mime_type == attachment.mime_type
        });
        let (image, pointer) = match slot {
            Some((image, index, _, taken)) => {
                *taken = true;
                (*image, format!("/harness/{}/{index}", if *image { "images" } else { "files" }))
            }
            None => (attachment.mime_type.starts_with("image/"), "/harness/files".to_owned()),
        };
        placed.push(Placed { pointer, image, attachment });
    }
    placed
}

/// An error with one problem.
#[must_use]
pub fn invalid(pointer: &str, message: &str) -> Error {
    Error::Invalid(vec![problem(pointer, message)])
}

/// One problem of a document.
#[must_use]
pub fn problem(pointer: &str, message: &str) -> Problem {
    Problem { pointer: pointer.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nulls_are_missing_fields_but_not_in_a_schema() {
        let payload = Payload::parse(
            r#"{"provider":"x","harness":{"permissions":null,"mcp":{"servers":[{"name":"a","env":null,"url":"http://h"}]},
                "structuredOutput":{"schema":{"enum":[null],"default":null}}},"optionalFlags":{"--a":true,"--b":[1,"x"],"--c":2.5}}"#,
        )
        .unwrap();
        assert!(payload.harness.permissions.sandbox_mode.is_none());
        assert_eq!(payload.harness.mcp.servers[0].transport(), "http");
        assert_eq!(
            payload.harness.structured_output.unwrap().schema,
            serde_json::json!({"enum": [null], "default": null})
        );
        assert_eq!(payload.optional_flags["--a"], FlagValue::Switch(true));
        assert_eq!(
            payload.optional_flags["--b"],
            FlagValue::List(vec![FlagScalar::Integer(1), FlagScalar::Text("x".to_owned())])
        );
        assert!(matches!(Payload::parse("[]"), Err(Error::Invalid(_))));
        assert!(matches!(Payload::parse("nonsense"), Err(Error::Invalid(_))));
    }
}
