//! The start payload as a provider reads it.
//!
//! The host has validated the document, so these types are lenient: missing fields are none, and unknown fields are ignored.

use std::collections::BTreeMap;

use ostler_plugin::Error;
use ostler_plugin::provider::{Attachment, RunRequest};
use ostler_plugin::types::Problem;
use serde::Deserialize;
use serde_json::Value;

/// The fields of a start payload on which a command line can depend.
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
    /// The flag without a value; `false` omits it.
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
    /// A string.
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
    /// Continue the newest session of the working folder.
    pub continue_session: Option<bool>,
    /// `text` or `stream-json`.
    pub input_format: Option<String>,
    /// Further folders in which the agent may work.
    pub additional_directories: Vec<String>,
    /// The only tools that the agent may use; none means no restriction.
    pub tools: Option<Vec<String>>,
    /// What the agent may do without asking.
    pub permissions: Permissions,
    /// Limits of the run.
    pub limits: Limits,
    /// MCP servers.
    pub mcp: Mcp,
    /// The format of the answer.
    pub structured_output: Option<StructuredOutput>,
    /// Replaces the CLI's system prompt.
    pub system_prompt: Option<String>,
    /// Is appended to the CLI's system prompt.
    pub append_system_prompt: Option<String>,
    /// Text that the agent gets in addition to the prompt.
    pub piped_content: Option<String>,
    /// Images for the model.
    pub images: Vec<AttachmentName>,
    /// Files for the model.
    pub files: Vec<AttachmentName>,
    /// Variables of the child's environment, set by the host.
    pub process_env: BTreeMap<String, String>,
    /// The only programs on the child's PATH, enforced by the host.
    pub cli_allowlist: Option<Value>,
    /// Script that every shell of the child runs first, set up by the host.
    pub shell_prelude: Option<Value>,
}

/// The permissions block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Permissions {
    /// `read-only`, `workspace-write` or `full-access`.
    pub sandbox_mode: Option<String>,
    /// Whether tools run without asking.
    pub auto_approve: Option<bool>,
    /// Whether the agent's tools may use the network.
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
    /// Maximum number of lines of a tool's result, enforced by the host.
    pub max_tool_result_lines: Option<u64>,
}

/// MCP servers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mcp {
    /// The servers, in the order of the payload.
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
    /// Its URL (http, sse).
    pub url: Option<String>,
    /// HTTP headers.
    pub headers: BTreeMap<String, String>,
    /// The only tools of the server that may be used.
    pub enabled_tools: Option<Vec<String>>,
    /// Tools of the server that may not be used.
    pub disabled_tools: Option<Vec<String>>,
    /// `false` disables the server.
    pub enabled: Option<bool>,
}

impl McpServer {
    /// `stdio`, `http` or `sse`: as configured, otherwise derived from the other fields.
    #[must_use]
    pub fn transport(&self) -> &str {
        match &self.kind {
            Some(kind) => kind,
            None if self.command.is_none() && self.url.is_some() => "http",
            None => "stdio",
        }
    }
}

/// The format of the answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StructuredOutput {
    /// JSON Schema of the answer.
    pub schema: Value,
}

/// An image or file in the payload. The attachments of the request contain its path.
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
    /// If the document is not a start payload.
    pub fn parse(document: &str) -> Result<Self, Error> {
        // A block that is `null` is the same as a missing block, but serde's `default` applies to missing members only.
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
            // A schema is the user's own document, in which null is a value.
            if key != "schema" {
                drop_nulls(value);
            }
        }
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(drop_nulls);
    }
}

/// An attachment and its pointer in the payload.
#[derive(Clone, Debug)]
pub struct PayloadAttachment<'a> {
    /// JSON Pointer of its entry.
    pub pointer: String,
    /// Whether it is in `images`.
    pub image: bool,
    /// The file that the host has written.
    pub attachment: &'a Attachment,
}

/// The attachments of a request with their pointers. They are matched by name and media type, so that their order does not
/// matter.
#[must_use]
pub fn attachments<'a>(request: &'a RunRequest, harness: &Harness) -> Vec<PayloadAttachment<'a>> {
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
        placed.push(PayloadAttachment { pointer, image, attachment });
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
    fn null_is_a_missing_field_except_in_a_schema() {
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
