//! The words of the extensible vocabularies. They are strings in the interface, so that plugin and host can be of different
//! versions. The plugin guide (`docs/plugins.md`) describes them. A word that is not listed here is passed on and shown as it is.

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $word;)+
        /// All words of this vocabulary.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

/// Features of a CLI, for `capabilities.features`, with the payload fields that depend on them. If a payload uses a field whose
/// feature is missing, the host reports it before the run.
pub mod features {
    words! {
        /// `harness.resumeSessionId`.
        RESUME = "resume";
        /// `harness.continueSession`: continuing the latest session of the folder.
        CONTINUE = "continue";
        /// `model`.
        MODEL = "model";
        /// `harness.inputFormat`.
        INPUT_FORMAT = "input-format";
        /// `harness.additionalDirectories`.
        ADDITIONAL_DIRECTORIES = "additional-directories";
        /// `harness.tools`: the CLI can be restricted to a list of tools.
        TOOLS = "tools";
        /// `harness.permissions.sandboxMode`: the CLI enforces it.
        SANDBOX = "sandbox";
        /// `harness.permissions.autoApprove`.
        AUTO_APPROVE = "auto-approve";
        /// `harness.permissions.networkAccess`: the CLI enforces it.
        NETWORK_ACCESS = "network-access";
        /// `harness.permissions.approvalPolicy`: the CLI asks before it uses tools, and the plugin can answer.
        APPROVALS = "approvals";
        /// `harness.limits.maxBudgetUsd`.
        MAX_BUDGET = "max-budget";
        /// `harness.limits.maxTurns`.
        MAX_TURNS = "max-turns";
        /// `harness.mcp`, servers of type `stdio`.
        MCP = "mcp";
        /// `harness.mcp`, servers of type `http`.
        MCP_HTTP = "mcp-http";
        /// `harness.mcp`, servers of type `sse`.
        MCP_SSE = "mcp-sse";
        /// `harness.mcp`: `enabledTools` and `disabledTools`.
        MCP_TOOL_FILTER = "mcp-tool-filter";
        /// `harness.structuredOutput`.
        STRUCTURED_OUTPUT = "structured-output";
        /// `harness.systemPrompt`.
        SYSTEM_PROMPT = "system-prompt";
        /// `harness.appendSystemPrompt`.
        APPEND_SYSTEM_PROMPT = "append-system-prompt";
        /// `harness.pipedContent`.
        PIPED_CONTENT = "piped-content";
        /// `harness.images`.
        IMAGES = "images";
        /// `harness.files`.
        FILES = "files";
        /// Text arrives in pieces while the model writes it, not only as whole messages.
        TEXT_DELTAS = "text-deltas";
        /// The model's reasoning, or a summary of it, is shown.
        THINKING = "thinking";
        /// Tool uses are reported.
        TOOL_EVENTS = "tool-events";
        /// Token counts are reported.
        USAGE = "usage";
        /// The cost is reported.
        COST = "cost";
        /// `terminal`: the CLI can run in a terminal.
        TERMINAL = "terminal";
        /// The sessions of the CLI have no protocol: they run in a terminal, without `terminal` in the payload as well.
        TERMINAL_ONLY = "terminal-only";
        /// A turn can be interrupted without ending the session.
        INTERRUPT = "interrupt";
        /// Input is accepted during a turn.
        STEER = "steer";
    }
}

/// Kinds of tools, for `tool-call.kind`. The first ten are those of `harness.tools`.
pub mod tools {
    words! {
        /// Reads a file.
        FILE_READ = "file_read";
        /// Creates or replaces a file.
        FILE_WRITE = "file_write";
        /// Changes a part of a file.
        FILE_EDIT = "file_edit";
        /// Finds files by name.
        FILE_SEARCH = "file_search";
        /// Finds text in files.
        CONTENT_SEARCH = "content_search";
        /// Runs commands.
        SHELL = "shell";
        /// Fetches a URL.
        WEB_FETCH = "web_fetch";
        /// Searches the web.
        WEB_SEARCH = "web_search";
        /// A tool of an MCP server.
        MCP = "mcp";
        /// A sub-agent.
        TASK = "task";
        /// The agent asks the user a question.
        QUESTION = "question";
        /// A tool that the plugin does not recognize. Strict policies deny it.
        OTHER = "other";
    }
}

/// Codes of `notice` (events `progress`, `warning` and `error`).
pub mod notices {
    words! {
        /// The CLI retries a request to its model. Facts: `attempt`, `maxAttempts`, `status`.
        CLI_RETRY = "cli-retry";
        /// The connection to the model broke, and the CLI reconnects.
        RECONNECTING = "reconnecting";
        /// The CLI starts, loads, or waits for something internal.
        STARTING = "starting";
        /// A new turn begins. Facts: `turn`.
        TURN_STARTED = "turn-started";
        /// The work is complete, and the CLI should exit; otherwise the host ends it. Later activity of the agent, or
        /// `turn-started`, cancels this. Facts: `background`, the background tasks for which the CLI still waits, each `{id,
        /// kind, description}`.
        WORK_DONE = "work-done";
        /// The CLI has exceeded a limit of the run that it does not enforce. The host ends it immediately, and later activity
        /// does not cancel this. `finish` reports why the run failed.
        STOP = "stop";
        /// The agent's plan or to-do list. Facts: `steps`, each `{text, status}`.
        PLAN = "plan";
        /// The session's history was summarized to reduce its length.
        COMPACTED = "compacted";
        /// An MCP server has started or is connected. Facts: `server`.
        MCP_SERVER_READY = "mcp-server-ready";
        /// An MCP server did not start or answer. Facts: `server`.
        MCP_SERVER_FAILED = "mcp-server-failed";
        /// A model other than the requested one answers. Facts: `from`, `to`.
        MODEL_REROUTED = "model-rerouted";
        /// The CLI does not know this model and guesses its limits.
        MODEL_UNKNOWN = "model-unknown";
        /// The CLI's own configuration contains an error or a setting that is ignored.
        CONFIG = "config";
        /// The CLI or one of its options is deprecated.
        DEPRECATED = "deprecated";
        /// The CLI itself denied a tool use.
        TOOL_DENIED = "tool-denied";
        /// A hook of the CLI ran or failed. Facts: `hook`.
        HOOK = "hook";
        /// A line of the protocol could not be read.
        PROTOCOL = "protocol";
        /// The model declined to answer, or answered in part.
        REFUSAL = "refusal";
        /// A request to the model or to a service of the CLI failed. Facts: `status`.
        REQUEST_FAILED = "request-failed";
        /// A message of the CLI without another code.
        OTHER = "other";
    }
}

/// Codes of `failure.code`. In addition, `http-NNN` (`http-401`, `http-529`) is the HTTP status that ended a run.
pub mod failures {
    words! {
        /// No login, key or token.
        NOT_LOGGED_IN = "not-logged-in";
        /// The key or token was refused or has expired.
        CREDENTIAL_REFUSED = "credential-refused";
        /// The account is not allowed to do this, or is disabled.
        ACCOUNT = "account";
        /// The model does not exist or is not available to the account.
        MODEL_UNKNOWN = "model-unknown";
        /// The service is overloaded.
        OVERLOADED = "overloaded";
        /// The service answered with an internal error.
        SERVER_ERROR = "server-error";
        /// There was no connection to the service, or it broke.
        CONNECTION = "connection";
        /// Too many requests or tokens in a short time.
        TOO_MANY_REQUESTS = "too-many-requests";
        /// The quota or credit of the account is used up.
        QUOTA = "quota";
        /// `limits.maxTurns` was reached.
        MAX_TURNS = "max-turns";
        /// `limits.maxBudgetUsd` was reached.
        MAX_BUDGET = "max-budget";
        /// The conversation is longer than the model's context.
        CONTEXT_LENGTH = "context-length";
        /// The answer reached the output limit of the model.
        OUTPUT_LENGTH = "output-length";
        /// The service refused the request as malformed.
        BAD_REQUEST = "bad-request";
        /// The model or the service refused for safety reasons.
        REFUSED = "refused";
        /// The CLI does not know a flag or an option.
        UNKNOWN_OPTION = "unknown-option";
        /// The CLI's own configuration file is invalid.
        CONFIG_INVALID = "config-invalid";
        /// The session to resume does not exist.
        SESSION_NOT_FOUND = "session-not-found";
        /// The folder is not inside a git repository, which the CLI requires.
        NOT_A_GIT_REPOSITORY = "not-a-git-repository";
        /// The CLI refuses to run as root with these options.
        ROOT_REFUSED = "root-refused";
        /// An MCP server or tool that the run requires did not start.
        MCP_SERVER_FAILED = "mcp-server-failed";
        /// The structured answer does not match the schema.
        STRUCTURED_OUTPUT = "structured-output";
        /// The CLI ended during a turn.
        ENDED_EARLY = "ended-early";
        /// The turn was interrupted.
        INTERRUPTED = "interrupted";
        /// A message of the protocol could not be read.
        PROTOCOL = "protocol";
        /// The CLI crashed.
        CRASHED = "crashed";
    }
}

/// Groups of `context.facts` that a policy may request with `wants`.
pub mod facts {
    words! {
        /// `{name, os, timeZone}`.
        HOST = "host";
        /// `{root, remote, branch}`; unknown members are omitted.
        REPOSITORY = "repository";
        /// `{runMicroUsd, conversationMicroUsd, dayMicroUsd, monthMicroUsd}`.
        SPEND = "spend";
        /// `{total, byKind: {shell: 3}}`: earlier tool uses of this attempt. Each id is counted once.
        TOOLS = "tools";
        /// Findings of earlier stages of this run, each `{stage, policy, check, verdict, pointer, message}`.
        FINDINGS = "findings";
        /// The start payload of the run, for actions after `start`.
        PAYLOAD = "payload";
        /// `{files, network}`: whether the host itself restricts access to files and to the network, regardless of the CLI's
        /// own sandbox.
        SANDBOX = "sandbox";
        /// Not a group of facts: the policy does not have to be called for tool uses.
        NO_TOOLS = "no-tools";
        /// Not a group of facts: the policy must decide on each tool use before the tool runs.
        TOOL_DECISIONS = "tool-decisions";
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_unique_and_lower_case() {
        for list in
            [super::features::ALL, super::tools::ALL, super::notices::ALL, super::failures::ALL, super::facts::ALL]
        {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len());
            assert!(list.iter().all(|word| { word.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_') }));
        }
    }
}
