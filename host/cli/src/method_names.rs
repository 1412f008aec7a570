//! Replaces API methods in hints by commands. The host names methods: `` `list_runs` ``, `` `cancel_run(ID)` ``. A
//! person needs the commands that call them.

/// Methods that hints name, the command that calls each, and the placeholder for its argument if the hint has none.
const COMMANDS: [(&str, &str, &str); 40] = [
    ("acknowledge_failures", "inbox ack", "RUN"),
    ("answer_approval", "approvals allow", "ID"),
    ("apply_retention", "retention apply", ""),
    ("archive_conversation", "chat archive", "CHAT"),
    ("cancel_run", "cancel", "RUN"),
    ("clear_provider_token", "token clear", "PROVIDER"),
    ("create_access_token", "access add", "NAME"),
    ("delete_run", "rm", "RUN"),
    ("end_session", "session end", "RUN"),
    ("get_conversation", "chat show", "CHAT"),
    ("get_inbox", "inbox", ""),
    ("get_retention", "retention show", ""),
    ("get_run", "show", "RUN"),
    ("get_run_events", "logs", "RUN"),
    ("get_settings", "settings list", ""),
    ("get_status", "status", ""),
    ("grant_workspace", "grant add", "FOLDER"),
    ("interrupt_turn", "session interrupt", "RUN"),
    ("list_access_tokens", "access list", ""),
    ("list_approvals", "approvals", ""),
    ("list_audit", "audit export", "FILE"),
    ("list_capabilities", "capabilities --refresh", ""),
    ("list_conversations", "chat list", ""),
    ("list_plugins", "plugin list", ""),
    ("list_profiles", "profile list", ""),
    ("list_queue_jobs", "queue", ""),
    ("list_runs", "runs", ""),
    ("list_workspace_grants", "grant list", ""),
    ("reload", "config reload", ""),
    ("resize_terminal", "session attach", "RUN"),
    ("resume_session", "session resume", "RUN"),
    ("revoke_access_token", "access revoke", "NAME"),
    ("save_provider_token", "token set", "PROVIDER"),
    ("send_session_input", "session send", "RUN TEXT"),
    ("start_interactive_session", "session start", "PROVIDER"),
    ("start_run", "run", "PROVIDER"),
    ("stop", "stop", ""),
    ("trust_plugin", "plugin trust", "NAME"),
    ("update_settings", "settings unset", "KEY"),
    ("verify_audit", "audit verify", ""),
];

/// Replaces methods in backquotes by commands.
pub(super) fn to_commands(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once('`') {
        out.push_str(before);
        out.push('`');
        let Some((inside, after)) = quoted.split_once('`') else {
            rest = quoted;
            continue;
        };
        match command(inside) {
            Some(command) => out.push_str(&command),
            None => out.push_str(inside),
        }
        out.push('`');
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The command for `method` or `method(argument)`.
fn command(call: &str) -> Option<String> {
    let (name, argument) = match call.split_once('(') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
        None => (call, None),
    };
    // A plain word in quotation marks can mean anything.
    if argument.is_none() && !name.contains('_') {
        return None;
    }
    let (_, command, placeholder) = COMMANDS.iter().find(|(method, ..)| *method == name)?;
    // `archive_conversation(ID, false)` is the only call in a hint with two arguments.
    let argument = match argument.and_then(|argument| argument.strip_suffix(", false")) {
        Some(argument) => format!("--undo {argument}"),
        None => argument.unwrap_or(placeholder).to_owned(),
    };
    Some(format!("ostler {command} {argument}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;
    use ostler_protocol::methods::METHODS;

    #[test]
    fn table_names_existing_methods_and_commands() {
        let root = Cli::command();
        for (method, command, _) in COMMANDS {
            assert!(METHODS.iter().any(|known| known.name == method), "{method}");
            let names = command.split(' ').filter(|name| !name.starts_with('-'));
            names.fold(&root, |at, name| at.find_subcommand(name).unwrap_or_else(|| panic!("{command}")));
        }
    }

    #[test]
    fn replaces_methods_and_keeps_other_words() {
        for (text, expected) in [
            ("`list_runs` lists the runs", "`ostler runs` lists the runs"),
            ("`cancel_run(0199)` cancels it", "`ostler cancel 0199` cancels it"),
            ("grant it with `grant_workspace`", "grant it with `ostler grant add FOLDER`"),
            ("`archive_conversation(c, false)` undoes it", "`ostler chat archive --undo c` undoes it"),
            ("see `runner.timeout_seconds` and list_runs", "see `runner.timeout_seconds` and list_runs"),
            ("an open ` quote", "an open ` quote"),
            ("`stop()` ends it, and `stop` is a word", "`ostler stop` ends it, and `stop` is a word"),
            ("", ""),
        ] {
            assert_eq!(to_commands(text), expected);
        }
    }
}
