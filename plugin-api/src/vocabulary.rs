//! The words of the open vocabularies. Strings on the wire, so that both sides may know more than the other; the plugin
//! guide (`docs/plugins.md`) lists what each means. A word that is not here is passed on and shown as it is.

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $word;)+
        /// All words of this vocabulary.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

/// What a CLI can do, for `capabilities.features`. A feature that is missing here makes the host say so before the run:
/// each word names the payload fields that depend on it.
pub mod features {
    words! {
        /// `harness.resumeSessionId`.
        RESUME = "resume";
        /// `harness.continueSession`: going on with the latest session of the folder.
        CONTINUE = "continue";
        /// `model`.
        MODEL = "model";
        /// `harness.inputFormat`.
        INPUT_FORMAT = "input-format";
        /// `harness.additionalDirectories`.
        ADDITIONAL_DIRECTORIES = "additional-directories";
        /// `harness.tools`: the CLI can be held to a list of tools.
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
        /// Text arrives while it is written, not only message by message.
        TEXT_DELTAS = "text-deltas";
        /// The model's reasoning, or a summary of it, is shown.
        THINKING = "thinking";
        /// Uses of tools are reported.
        TOOL_EVENTS = "tool-events";
        /// Tokens are reported.
        USAGE = "usage";
        /// Cost is reported.
        COST = "cost";
        /// A turn can be interrupted without ending the session.
        INTERRUPT = "interrupt";
        /// Input is taken in the middle of a turn.
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
        /// Looks for files by name.
        FILE_SEARCH = "file_search";
        /// Looks for text in files.
        CONTENT_SEARCH = "content_search";
        /// Runs commands.
        SHELL = "shell";
        /// Fetches an address.
        WEB_FETCH = "web_fetch";
        /// Searches the web.
        WEB_SEARCH = "web_search";
        /// A tool of an MCP server.
        MCP = "mcp";
        /// A sub-agent.
        TASK = "task";
        /// The agent asks the user something.
        QUESTION = "question";
        /// What the plugin does not recognise. Strict policies refuse it.
        OTHER = "other";
    }
}

/// Codes of `notice` (events `progress`, `warning` and `error`).
pub mod notices {
    words! {
        /// The CLI tries a request to its model again. Facts: `attempt`, `maxAttempts`, `status`.
        CLI_RETRY = "cli-retry";
        /// The stream from the model broke and is taken up again.
        RECONNECTING = "reconnecting";
        /// The CLI starts, loads, or waits for something of its own.
        STARTING = "starting";
        /// A new turn begins. Facts: `turn`.
        TURN_STARTED = "turn-started";
        /// All that was asked is done, and the CLI has nothing left to do but to end; the host ends one that does not.
        /// What the agent does after that, or `turn-started`, takes it back. Facts: `background`, what the CLI still waits
        /// for, each `{id, kind, description}`.
        WORK_DONE = "work-done";
        /// The CLI continues past a limit of the run that it does not enforce. The host ends it immediately, and later
        /// activity does not cancel this. `finish` reports why the run failed.
        STOP = "stop";
        /// The plan or to-do list of the agent. Facts: `steps`, each `{text, status}`.
        PLAN = "plan";
        /// The session's history was summarised to make room.
        COMPACTED = "compacted";
        /// An MCP server has started or is connected. Facts: `server`.
        MCP_SERVER_READY = "mcp-server-ready";
        /// An MCP server did not start or answer. Facts: `server`.
        MCP_SERVER_FAILED = "mcp-server-failed";
        /// Another model answers than the one that was asked for. Facts: `from`, `to`.
        MODEL_REROUTED = "model-rerouted";
        /// The CLI knows nothing of this model and guesses its limits.
        MODEL_UNKNOWN = "model-unknown";
        /// Something in the CLI's own configuration is wrong or ignored.
        CONFIG = "config";
        /// The CLI or an option of it is to be replaced.
        DEPRECATED = "deprecated";
        /// A tool use was refused by the CLI itself.
        TOOL_DENIED = "tool-denied";
        /// A hook of the CLI ran or failed. Facts: `hook`.
        HOOK = "hook";
        /// A line of the protocol could not be read.
        PROTOCOL = "protocol";
        /// The model declined to answer, or answered in part.
        REFUSAL = "refusal";
        /// A request to the model or to a service of the CLI failed. Facts: `status`.
        REQUEST_FAILED = "request-failed";
        /// What the CLI said has no word of its own.
        OTHER = "other";
    }
}

/// Codes of `failure.code`. `http-NNN` (`http-401`, `http-529`) is one for each status that ended a run.
pub mod failures {
    words! {
        /// No login, key or token.
        NOT_LOGGED_IN = "not-logged-in";
        /// The key or token was refused or has expired.
        CREDENTIAL_REFUSED = "credential-refused";
        /// The account may not do this, or is disabled.
        ACCOUNT = "account";
        /// The model does not exist or may not be used.
        MODEL_UNKNOWN = "model-unknown";
        /// The service is overloaded.
        OVERLOADED = "overloaded";
        /// The service answered with an error of its own.
        SERVER_ERROR = "server-error";
        /// No connection to the service, or it broke.
        CONNECTION = "connection";
        /// Too many requests or tokens in a short time.
        TOO_MANY_REQUESTS = "too-many-requests";
        /// The quota or credit of the account is used up.
        QUOTA = "quota";
        /// `limits.maxTurns` was reached.
        MAX_TURNS = "max-turns";
        /// `limits.maxBudgetUsd` was reached.
        MAX_BUDGET = "max-budget";
        /// The conversation is longer than the model takes.
        CONTEXT_LENGTH = "context-length";
        /// The answer is longer than the model may write.
        OUTPUT_LENGTH = "output-length";
        /// The service refused the request as malformed.
        BAD_REQUEST = "bad-request";
        /// The model or the service declined for reasons of safety.
        REFUSED = "refused";
        /// A flag or option that the CLI does not know.
        UNKNOWN_OPTION = "unknown-option";
        /// The CLI's own configuration file is wrong.
        CONFIG_INVALID = "config-invalid";
        /// The session to resume does not exist.
        SESSION_NOT_FOUND = "session-not-found";
        /// The folder is not inside a git repository, and the CLI insists.
        NOT_A_GIT_REPOSITORY = "not-a-git-repository";
        /// The CLI does not run as root with these options.
        ROOT_REFUSED = "root-refused";
        /// A server or tool that the run needs did not start.
        MCP_SERVER_FAILED = "mcp-server-failed";
        /// The structured answer never matched the schema.
        STRUCTURED_OUTPUT = "structured-output";
        /// The CLI ended in the middle of a turn.
        ENDED_EARLY = "ended-early";
        /// The turn was interrupted.
        INTERRUPTED = "interrupted";
        /// A message of the protocol could not be read.
        PROTOCOL = "protocol";
        /// The CLI crashed.
        CRASHED = "crashed";
    }
}

/// Groups of `context.facts` that a policy may want.
pub mod facts {
    words! {
        /// `{name, os, timeZone}`.
        HOST = "host";
        /// `{root, remote, branch}`; members that are not known are missing.
        REPOSITORY = "repository";
        /// `{runMicroUsd, conversationMicroUsd, dayMicroUsd, monthMicroUsd}`.
        SPEND = "spend";
        /// `{total, byKind: {shell: 3}}`: uses that were reported before in this attempt, each id counted once.
        TOOLS = "tools";
        /// Findings of earlier stages of this run, each `{stage, policy, check, verdict, pointer, message}`.
        FINDINGS = "findings";
        /// The start payload of the run, for the stages after `start`.
        PAYLOAD = "payload";
        /// `{files, network}`: what the host itself bounds, whatever the CLI's own sandbox does. Each true or false.
        SANDBOX = "sandbox";
        /// No facts: the policy has nothing to say about tool uses, and need not be asked about them.
        NO_TOOLS = "no-tools";
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_unique_and_of_one_form() {
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
