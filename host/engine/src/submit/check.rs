//! Checks of a start payload that go beyond its schema: contradictions, and values that would certainly fail later.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;

use ostler_egress::{AllowList, RuleSource};
use ostler_protocol::MARKER_VARIABLE;
use ostler_protocol::{
    AllowlistMode, ApiError, Attachment, CliAllowlist, ErrorKind, Harness, Mcp, McpServer, McpTransport, Permissions,
    Problem, RunMode, ShellPrelude, StartPayload,
};
use ostler_schema::BoundedSchema;

/// Largest attachment that comes as a `data:` URL, decoded.
const MAX_ATTACHMENT_BYTES: usize = 24 << 20;

/// Every problem of a payload.
///
/// # Errors
/// `INVALID_PARAMS` with all of them.
pub(crate) fn check(payload: &StartPayload) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    if payload.mode == Some(RunMode::Interactive) && payload.max_retries.is_some_and(|retries| retries > 0) {
        problems.add("/maxRetries", "a session is not retried; it can be resumed");
    }
    if payload.terminal.is_some() && payload.mode != Some(RunMode::Interactive) {
        problems.add("/terminal", "is only for sessions: `start_interactive_session`, or the mode `interactive`");
    }
    match &payload.cwd {
        None => problems.add("/cwd", "is required: the folder in which the agent is to work"),
        Some(cwd) if !cwd.is_absolute() => problems.add("/cwd", "must be an absolute path"),
        Some(_) => {}
    }
    if let Some(harness) = &payload.harness {
        check_harness(harness, &mut problems);
    }
    problems.into_result()
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { pointer: pointer.into(), message: message.into() });
    }

    fn into_result(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

fn check_harness(harness: &Harness, problems: &mut Problems) {
    if harness.resume_session_id.is_some() && harness.continue_session == Some(true) {
        problems.add("/harness/continueSession", "contradicts resumeSessionId: name a session or take the newest");
    }
    for (index, folder) in harness.additional_directories.iter().enumerate() {
        if !folder.is_absolute() {
            problems.add(format!("/harness/additionalDirectories/{index}"), "must be an absolute path");
        }
    }
    for (block, attachments) in [("images", &harness.images), ("files", &harness.files)] {
        let mut names = BTreeSet::new();
        for (index, attachment) in attachments.iter().enumerate() {
            let at = format!("/harness/{block}/{index}");
            if !names.insert(attachment.name.as_str()) {
                problems.add(format!("{at}/name"), "is used twice");
            }
            check_attachment(attachment, &at, problems);
        }
    }
    for (name, value) in &harness.process_env {
        let at = format!("/harness/processEnv/{}", name.replace('~', "~0").replace('/', "~1"));
        if !valid_variable(name) {
            problems.add(&at, "is not a valid variable name: letters, digits and _, not first a digit");
        } else if name == MARKER_VARIABLE {
            problems.add(&at, "belongs to the host");
        } else if harness.cli_allowlist.is_some() && matches!(name.as_str(), "PATH" | "BASH_ENV" | "ENV" | "ZDOTDIR") {
            problems.add(&at, "contradicts cliAllowlist, which sets it");
        } else if harness.shell_prelude.is_some() && matches!(name.as_str(), "BASH_ENV" | "ENV" | "ZDOTDIR") {
            problems.add(&at, "contradicts shellPrelude, which sets it");
        } else if (harness.cli_allowlist.is_some() || harness.shell_prelude.is_some()) && name == "SHLVL" {
            problems.add(&at, "contradicts cliAllowlist and shellPrelude, which set it");
        }
        if value.contains('\0') {
            problems.add(&at, "must not contain NUL");
        }
    }
    if let Some(permissions) = &harness.permissions {
        check_allowed_hosts(permissions, problems);
    }
    if let Some(mcp) = &harness.mcp {
        check_mcp(mcp, problems);
    }
    if let Some(wanted) = &harness.structured_output {
        let at = "/harness/structuredOutput/schema";
        if !wanted.schema.is_object() {
            problems.add(at, "must be a JSON Schema, an object");
        } else if let Err(error) = BoundedSchema::compile(&wanted.schema) {
            problems.add(format!("{at}{}", error.pointer), error.message);
        }
    }
    let plan =
        harness.cli_allowlist.as_ref().map(|allowlist| (allowlist, ostler_runner::plan_shims(&shims(allowlist))));
    if let Some((_, plan)) = &plan {
        let wrong = match plan {
            Ok(plan) => plan.missing_programs(),
            Err(wrong) => wrong.clone(),
        };
        for problem in wrong {
            problems.add(format!("/harness/cliAllowlist{}", problem.pointer), problem.message);
        }
    }
    if let Some(block) = &harness.shell_prelude
        && let Err(wrong) = ostler_runner::plan_prelude(Some(&prelude(block)), None)
    {
        for problem in wrong {
            problems.add(format!("/harness/shellPrelude{}", problem.pointer), problem.message);
        }
    }
}

fn check_attachment(attachment: &Attachment, at: &str, problems: &mut Problems) {
    if attachment.name.contains(['/', '\0']) || matches!(attachment.name.as_str(), "." | "..") {
        problems.add(format!("{at}/name"), "must be a file name without folders");
    }
    match (&attachment.data_url, &attachment.path) {
        (Some(_), Some(_)) | (None, None) => problems.add(at, "needs either dataUrl or path"),
        (Some(url), None) => match decode_data_url(url) {
            Err(message) => problems.add(format!("{at}/dataUrl"), message),
            Ok(bytes) if bytes.len() > MAX_ATTACHMENT_BYTES => {
                problems.add(format!("{at}/dataUrl"), format!("is larger than {} MiB", MAX_ATTACHMENT_BYTES >> 20));
            }
            Ok(_) => {}
        },
        (None, Some(path)) if !path.is_absolute() => problems.add(format!("{at}/path"), "must be an absolute path"),
        (None, Some(path)) => match std::fs::metadata(path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => problems.add(format!("{at}/path"), format!("{} is not a file", path.display())),
            Err(error) => problems.add(format!("{at}/path"), format!("{} cannot be read: {error}", path.display())),
        },
    }
}

fn check_allowed_hosts(permissions: &Permissions, problems: &mut Problems) {
    let at = "/harness/permissions/allowHosts";
    if permissions.network_access == Some(false) && !permissions.allow_hosts.is_empty() {
        problems.add(at, "contradicts networkAccess: false, which leaves the model's own hosts alone");
    }
    for invalid in AllowList::parse(&permissions.allow_hosts, RuleSource::Payload).err().into_iter().flatten() {
        problems.add(format!("{at}/{}", invalid.index), invalid.message);
    }
}

fn check_mcp(mcp: &Mcp, problems: &mut Problems) {
    let mut names = BTreeSet::new();
    for (index, server) in mcp.servers.iter().enumerate() {
        let at = format!("/harness/mcp/servers/{index}");
        if !names.insert(server.name.as_str()) {
            problems.add(format!("{at}/name"), "is used twice");
        }
        match (transport(server), &server.command, &server.url) {
            (McpTransport::Stdio, None, _) => problems.add(format!("{at}/command"), "is required for a stdio server"),
            (McpTransport::Stdio, _, Some(_)) => problems.add(format!("{at}/url"), "a stdio server has no url"),
            (McpTransport::Http | McpTransport::Sse, _, None) => problems.add(format!("{at}/url"), "is required"),
            (McpTransport::Http | McpTransport::Sse, Some(_), _) => {
                problems.add(format!("{at}/command"), "a server with a url has no command");
            }
            _ => {}
        }
    }
}

fn transport(server: &McpServer) -> McpTransport {
    let implied =
        if server.url.is_some() && server.command.is_none() { McpTransport::Http } else { McpTransport::Stdio };
    server.transport.unwrap_or(implied)
}

fn valid_variable(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// The bytes of a `data:` URL.
pub(crate) fn decode_data_url(url: &str) -> Result<Vec<u8>, String> {
    let body = url.strip_prefix("data:").ok_or("must begin with data:")?;
    let (kind, data) = body.split_once(',').ok_or("must have a comma before its data")?;
    if kind.ends_with(";base64") {
        return STANDARD.decode(data.trim()).map_err(|_| "its data is not base64".to_owned());
    }
    Ok(percent_encoding::percent_decode_str(data).collect())
}

/// The allowlist as the runner takes it.
pub(crate) fn shims(allowlist: &CliAllowlist) -> ostler_runner::CliAllowlist {
    ostler_runner::CliAllowlist {
        entries: allowlist
            .entries
            .iter()
            .map(|entry| ostler_runner::ShimEntry {
                name: entry.name.clone(),
                path: entry.path.clone(),
                args: entry.args.clone(),
                env: entry.env.clone(),
            })
            .collect(),
        mode: match allowlist.mode.unwrap_or_default() {
            AllowlistMode::Shims => ostler_runner::ShimMode::Shims,
            AllowlistMode::Wrapper => ostler_runner::ShimMode::Wrapper,
        },
        wrapper_name: allowlist.wrapper_name.clone(),
        bin_dir: allowlist.bin_dir.clone(),
        keep_bin_dir: allowlist.keep_bin_dir.unwrap_or(false),
    }
}

/// The prelude as the runner takes it.
pub(crate) fn prelude(prelude: &ShellPrelude) -> ostler_runner::ShellPrelude {
    ostler_runner::ShellPrelude {
        content: prelude.content.clone(),
        bash_env: prelude.bash_env.unwrap_or(true),
        sh_env: prelude.sh_env.unwrap_or(true),
    }
}

/// The working folder with its links resolved.
///
/// # Errors
/// `CWD_MISSING` with the reason; `IO` if the host lacks resources to look at it.
pub(crate) fn working_folder(cwd: &Path) -> Result<std::path::PathBuf, ApiError> {
    let missing = |what: &str| {
        let message = format!("the working folder {} {what}", cwd.display());
        ApiError::new(ErrorKind::CwdMissing, message).at("/cwd").hint("name a folder that exists")
    };
    let unusable = |error: std::io::Error| {
        let what = format!("cannot be used: {error}");
        if error.raw_os_error().is_some_and(|number| ostler_runner::is_transient(Errno::from_raw(number))) {
            return ApiError::new(ErrorKind::Io, format!("the working folder {} {what}", cwd.display()));
        }
        missing(&what)
    };
    match std::fs::metadata(cwd) {
        Ok(found) if found.is_dir() => cwd.canonicalize().map_err(unusable),
        Ok(_) => Err(missing("is a file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && cwd.is_symlink() => {
            Err(missing("is a link that leads nowhere"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing("does not exist")),
        Err(error) => Err(unusable(error)),
    }
}

/// Opens a folder by the path that was evaluated. Its links were resolved, so that it must contain none now.
///
/// # Errors
/// `CWD_MISSING` if it no longer exists or the path contains a link now; `IO` if the host lacks resources to open it.
pub(crate) fn open_folder(path: &Path) -> Result<std::os::fd::OwnedFd, ApiError> {
    use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how).map_err(|errno| {
        let what = match errno {
            Errno::ELOOP => "leads elsewhere now: a link is on the way".to_owned(),
            errno => format!("cannot be opened: {}", errno.desc()),
        };
        let kind = if ostler_runner::is_transient(errno) { ErrorKind::Io } else { ErrorKind::CwdMissing };
        ApiError::new(kind, format!("the folder {} {what}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use ostler_schema::validate_document;

    use super::*;

    #[test]
    fn every_contradiction_is_named() {
        let payload = validate_document::<StartPayload>(json!({
            "provider": "codex", "prompt": "x", "cwd": "relative",
            "harness": {
                "resumeSessionId": "a", "continueSession": true,
                "additionalDirectories": ["also/relative"],
                "images": [{"name": "a/b", "mimeType": "image/png"}, {"name": "c", "mimeType": "image/png", "dataUrl": "data:image/png;base64,?"}],
                "processEnv": {"1x": "a", "OSTLER_RUN_MARKER": "b"},
                "mcp": {"servers": [{"name": "s"}, {"name": "s", "type": "http"}]},
                "structuredOutput": {"schema": {"type": "wrong"}}
            }
        }))
        .unwrap();
        let error = check(&payload).unwrap_err();
        let pointers: Vec<&str> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/cwd",
                "/harness/continueSession",
                "/harness/additionalDirectories/0",
                "/harness/images/0/name",
                "/harness/images/0",
                "/harness/images/1/dataUrl",
                "/harness/processEnv/1x",
                "/harness/processEnv/OSTLER_RUN_MARKER",
                "/harness/mcp/servers/0/command",
                "/harness/mcp/servers/1/name",
                "/harness/mcp/servers/1/url",
                "/harness/structuredOutput/schema/type",
            ]
        );
    }

    #[test]
    fn every_wrong_host_is_named() {
        let refused = |permissions: serde_json::Value| {
            let payload =
                json!({"provider": "codex", "prompt": "x", "cwd": "/", "harness": {"permissions": permissions}});
            let problems = check(&validate_document::<StartPayload>(payload).unwrap())
                .err()
                .map_or_else(Vec::new, |error| error.problems);
            problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect::<Vec<_>>()
        };
        let good = json!(["api.example.com", "*.example.org:8443", "localhost:5432", "10.0.0.7:80"]);
        assert_eq!(refused(json!({"allowHosts": good})), []);
        assert_eq!(refused(json!({"allowHosts": good, "networkAccess": true})), []);
        let found = refused(json!({"allowHosts": good, "networkAccess": false}));
        assert_eq!((found.len(), found[0].0.as_str()), (1, "/harness/permissions/allowHosts"));
        let found =
            refused(json!({"allowHosts": ["https://a.example/x", "ok.example", "localhost", "169.254.169.254:80"]}));
        let at = |index: usize| format!("/harness/permissions/allowHosts/{index}");
        assert_eq!(found.iter().map(|(pointer, _)| pointer.clone()).collect::<Vec<_>>(), [at(0), at(2), at(3)]);
        assert!(found[0].1.contains("without a scheme"), "{found:?}");
    }

    #[test]
    fn variables_that_the_host_sets_for_shells_are_refused() {
        let allowlist = json!({"entries": [{"name": "ls", "path": "/bin/ls"}]});
        let variables = json!({"PATH": "a", "BASH_ENV": "b", "ENV": "c", "ZDOTDIR": "d", "SHLVL": "7", "OTHER": "e"});
        let refused = |harness: serde_json::Value| {
            let payload = json!({"provider": "codex", "prompt": "x", "cwd": "/", "harness": harness});
            let problems = check(&validate_document::<StartPayload>(payload).unwrap())
                .err()
                .map_or_else(Vec::new, |error| error.problems);
            let names = problems.iter().filter_map(|problem| problem.pointer.rsplit('/').next());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            refused(json!({"processEnv": variables, "cliAllowlist": allowlist})),
            ["BASH_ENV", "ENV", "PATH", "SHLVL", "ZDOTDIR"]
        );
        assert_eq!(
            refused(json!({"processEnv": variables, "shellPrelude": {"content": "x=1"}})),
            ["BASH_ENV", "ENV", "SHLVL", "ZDOTDIR"]
        );
        assert_eq!(refused(json!({"processEnv": variables})), Vec::<String>::new());
    }

    #[test]
    fn file_and_missing_folder_have_different_messages() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let message = |path: &Path| working_folder(path).unwrap_err().message;
        assert!(message(&file).ends_with("is a file"));
        assert!(message(&link).ends_with("leads nowhere"));
        assert!(message(&folder.path().join("gone")).ends_with("does not exist"));
        assert!(working_folder(folder.path()).is_ok());
    }
}
