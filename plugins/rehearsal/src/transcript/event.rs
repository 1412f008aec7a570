//! The lines of the stand-in.

use ostler_plugin::{
    provider::{FileAccess, FileEffect, McpTool, ToolCall},
    vocabulary::tools,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// One line of the protocol. Unknown kinds and fields are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum Event {
    Session {
        session: String,
        #[serde(default)]
        resumed: bool,
    },
    Notice {
        code: String,
        message: String,
    },
    Warning {
        code: String,
        message: String,
    },
    #[serde(rename = "thinking.delta")]
    ThinkingDelta {
        message: String,
        text: String,
    },
    Thinking {
        message: String,
        text: String,
    },
    #[serde(rename = "text.delta")]
    TextDelta {
        message: String,
        text: String,
    },
    Text {
        message: String,
        text: String,
    },
    #[serde(rename = "tool.start")]
    ToolStart(Use),
    #[serde(rename = "tool.delta")]
    ToolDelta {
        tool: String,
        text: String,
    },
    #[serde(rename = "tool.result")]
    ToolResult {
        tool: String,
        output: String,
        #[serde(default)]
        error: bool,
        exit_code: Option<i32>,
    },
    Usage {
        input_tokens: Option<u64>,
        output_tokens: Option<u64>,
    },
    RateLimited {
        message: String,
        retry_after_ms: Option<u64>,
    },
    Result(Last),
    /// The end of a turn of a conversation.
    Turn(Last),
    /// The answer to a request of the host.
    Answer {
        request: String,
    },
    Ask(Box<Ask>),
    Withdraw {
        ask: String,
    },
    /// Something that the host does not know.
    Request {
        request: String,
        what: String,
    },
    State {
        state: String,
        background: usize,
    },
}

/// The end of the work, or of a turn.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Last {
    pub(super) session: String,
    pub(super) status: String,
    pub(super) text: Option<String>,
    pub(super) structured: Option<Value>,
    pub(super) failure: Option<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reason {
    pub(super) class: String,
    pub(super) code: Option<String>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) retry_after_ms: Option<u64>,
}

/// A question of the stand-in.
#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    pub(super) ask: String,
    pub(super) phase: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) editable: bool,
    pub(super) reason: Option<String>,
    #[serde(flatten)]
    pub(super) about: Use,
}

/// The use of a tool, or what else a question is about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Use {
    tool: String,
    name: String,
    command: Option<String>,
    cwd: Option<String>,
    path: Option<String>,
    diff: Option<String>,
    url: Option<String>,
    server: Option<String>,
    server_tool: Option<String>,
    text: Option<String>,
    pub(super) questions: Option<Value>,
    pub(super) schema: Option<Value>,
}

impl Use {
    /// What it is about, in one line.
    pub(super) fn title(&self) -> Option<String> {
        self.text.clone()
    }

    pub(super) fn call(&self) -> ToolCall {
        let kind = match self.name.as_str() {
            "shell" => tools::SHELL,
            "patch" => tools::FILE_EDIT,
            "read" => tools::FILE_READ,
            "fetch" => tools::WEB_FETCH,
            "mcp" => tools::MCP,
            "question" => tools::QUESTION,
            _ => tools::OTHER,
        };
        let mut input = json!({});
        let texts = [
            ("command", &self.command),
            ("path", &self.path),
            ("diff", &self.diff),
            ("url", &self.url),
            ("server", &self.server),
            ("tool", &self.server_tool),
            ("text", &self.text),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                input[name] = text.as_str().into();
            }
        }
        if let Some(questions) = &self.questions {
            input["questions"] = questions.clone();
        }
        let effect = if self.name == "read" { FileEffect::Read } else { FileEffect::Modify };
        let file = |path: &String| FileAccess { path: path.clone(), effect, change: self.diff.clone() };
        let mcp = self
            .server
            .as_ref()
            .map(|server| McpTool { server: server.clone(), tool: self.server_tool.clone().unwrap_or_default() });
        ToolCall {
            id: self.tool.clone(),
            kind: kind.to_owned(),
            name: self.name.clone(),
            input: input.to_string(),
            commands: self.command.iter().cloned().collect(),
            cwd: self.cwd.clone(),
            files: self.path.iter().map(file).collect(),
            urls: self.url.iter().cloned().collect(),
            mcp,
            ..ToolCall::default()
        }
    }
}
