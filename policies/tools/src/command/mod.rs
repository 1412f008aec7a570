//! What a simple command does.

mod access;
mod network;
mod options;
mod programs;
mod wrappers;

use std::collections::BTreeSet;

use crate::act::{Access, Act, Command, PathUse};
use crate::paths::{Place, is_stream};
use crate::shell::{Folders, Redirection, Stdin, Walker};
use crate::text::{DYNAMIC, is_open, shown};
use wrappers::Inner;

pub(crate) use network::host_of;
pub(crate) use programs::SHELLS;

/// Commands inside commands: `sudo env nice …`.
const MAX_INNER: usize = 16;

/// Variables that make another program of a command, or make it run one.
const CODE: &[&str] = &[
    "PATH",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PROMPT_COMMAND",
    "PS4",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "NODE_PATH",
    "JAVA_TOOL_OPTIONS",
    "CLASSPATH",
    "RUSTC_WRAPPER",
    "RUSTC",
    "CARGO",
    "CC",
    "CXX",
    "MAKEFLAGS",
    "LESSOPEN",
    "MANPAGER",
];
const CODE_PREFIXES: &[&str] = &["LD_", "DYLD_", "GIT_", "BASH_FUNC_", "npm_config_", "CARGO_", "SSH_ASKPASS"];

/// Folders whose programs are the usual ones.
const SYSTEM: &[&str] = &["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"];

/// Looks at a command with these words, after expansion.
pub(crate) fn run(walker: &mut Walker<'_>, words: &[String], redirections: &[Redirection], stdin: &Stdin) {
    Call { words, redirections, stdin, inner: 0 }.run(walker);
}

/// The redirections of a compound command.
pub(crate) fn redirect(walker: &mut Walker<'_>, redirections: &[Redirection]) {
    let act = Call { words: &[], redirections, stdin: &Stdin::Inherited, inner: 0 }.act(walker, None, Vec::new());
    walker.add(act);
}

struct Call<'c> {
    words: &'c [String],
    redirections: &'c [Redirection],
    stdin: &'c Stdin,
    /// Commands around this one.
    inner: usize,
}

impl Call<'_> {
    fn run(&self, walker: &mut Walker<'_>) {
        let Some((first, arguments)) = self.words.split_first() else {
            if !self.redirections.is_empty() {
                redirect(walker, self.redirections);
            }
            return;
        };
        if self.inner > MAX_INNER || !walker.spend(1) {
            walker.unknown("a command is wrapped in too many others");
            return;
        }
        // zsh replaces `=rm` by the path of rm.
        let first = first.strip_prefix('=').unwrap_or(first);
        let program = first.rsplit('/').next().unwrap_or_default().to_owned();
        let is_function = !first.contains('/') && walker.call(&program);
        if is_open(&program) || program.is_empty() {
            walker.unknown(format!("the program `{}` is only known when the command runs", shown(first)));
        }
        let parsed = options::parse(&program, arguments);
        let is_usual = !is_function
            && first.rsplit_once('/').is_none_or(|(folder, _)| SYSTEM.contains(&folder))
            && !walker.state.values.keys().any(|name| is_code(name));
        let command = Command { program, is_usual, options: parsed.options, operands: parsed.operands };
        self.effects(walker, &command, arguments);
        let inner = wrappers::inner(&command, arguments, self.stdin, walker);
        let paths = access::of(&command, arguments);
        let act = self.act(walker, Some(command), paths);
        let folders = elsewhere(act.command.as_ref(), walker);
        walker.add(act);
        let before = folders.map(|folders| std::mem::replace(&mut walker.state.folders, folders));
        for inner in inner {
            match inner {
                Inner::Command(words) => {
                    Call { words: &words, redirections: &[], stdin: self.stdin, inner: self.inner + 1 }.run(walker);
                }
                Inner::Script(script) => walker.subshell(&script),
                Inner::Here(script) => walker.script(&script),
                Inner::Shell(script) => walker.shell(&script, self.stdin.clone()),
                Inner::Unknown(reason) => walker.unknown(reason),
            }
        }
        if let Some(before) = before {
            walker.state.folders = before;
        }
    }

    /// What the command changes in the shell.
    fn effects(&self, walker: &mut Walker<'_>, command: &Command, arguments: &[String]) {
        let operands = || command.operands.iter().map(|operand| operand.text.as_str());
        match command.program.as_str() {
            "cd" | "pushd" => {
                let mut folders = Folders::one(DYNAMIC.to_string());
                match operands().next().unwrap_or(if command.program == "cd" { "~" } else { "-" }) {
                    "-" => folders = walker.state.earlier.clone(),
                    target => {
                        let known: Vec<String> = walker
                            .state
                            .folders
                            .iter()
                            .map(|folder| walker.workspace.resolve(folder, target))
                            .collect();
                        let mut known = known.into_iter();
                        if let Some(first) = known.next() {
                            folders = Folders::one(first);
                        }
                        known.for_each(|folder| folders.insert(folder));
                    }
                }
                walker.state.enter_folder(folders);
            }
            "popd" => {
                let mut folders = walker.state.earlier.clone();
                folders.insert(DYNAMIC.to_string());
                walker.state.enter_folder(folders);
            }
            "export" | "declare" | "local" | "readonly" | "typeset" => {
                for field in arguments {
                    walker.assign_field(field);
                }
            }
            "alias" => {
                for (_, script) in arguments.iter().filter_map(|argument| argument.split_once('=')) {
                    walker.subshell(script);
                }
            }
            "read" | "mapfile" | "readarray" | "getopts" => {
                for name in operands() {
                    walker.state.assign(name, DYNAMIC.to_string());
                }
            }
            "printf" => {
                if let Some(name) = arguments.iter().position(|word| word == "-v").and_then(|at| arguments.get(at + 1))
                {
                    walker.state.assign(name, DYNAMIC.to_string());
                }
            }
            _ => {}
        }
    }

    /// The act with its paths and hosts.
    fn act(&self, walker: &Walker<'_>, command: Option<Command>, used: Vec<(Access, String)>) -> Act {
        let mut act = Act { command, ..Act::default() };
        if let Some(command) = &act.command {
            network::of(command, &mut act.hosts, &mut act.network);
        }
        let redirected = self.redirections.iter().map(|redirection| (redirection.access, redirection.target.clone()));
        let redirected = redirected.map(|(access, target)| (access, target, true));
        let mut seen = BTreeSet::new();
        let used = used.into_iter().map(|(access, text)| (access, text, false));
        for (access, text, is_redirected) in redirected.chain(used) {
            if !seen.insert((access, text.clone())) {
                continue;
            }
            if let Some(address) = text.strip_prefix("/dev/tcp/").or_else(|| text.strip_prefix("/dev/udp/")) {
                act.network = true;
                act.hosts.push(address.split('/').next().unwrap_or_default().to_owned());
            }
            if is_stream(&text) || text.is_empty() {
                continue;
            }
            let folders = command_folders(act.command.as_ref(), walker);
            act.paths.push(PathUse { is_redirected, ..path_use(walker, &folders, access, text) });
        }
        act
    }
}

/// The folders in which a wrapper runs its command, if these are others: `env -C DIR …`.
fn elsewhere(command: Option<&Command>, walker: &Walker<'_>) -> Option<Folders> {
    let command = command?;
    let names: &[&str] = match command.program.as_str() {
        "env" => &["-C", "--chdir"],
        "sudo" => &["-D", "--chdir"],
        _ => return None,
    };
    let target = command.option(names)?.value.as_deref()?;
    // The option may also be one of the command.
    let mut folders = walker.state.folders.clone();
    for folder in walker.state.folders.iter() {
        folders.insert(walker.workspace.resolve(folder, target));
    }
    Some(folders)
}

/// The folders in which a command resolves relative paths.
fn command_folders(command: Option<&Command>, walker: &Walker<'_>) -> Vec<String> {
    let folders: Vec<String> = walker.state.folders.iter().map(str::to_owned).collect();
    let names: &[&str] = match command.map(|command| command.program.as_str()) {
        Some("git" | "make" | "tar" | "bsdtar" | "cargo" | "pnpm" | "ninja") => &["-C", "--directory"],
        _ => &[],
    };
    match command.and_then(|command| command.option(names)).and_then(|option| option.value.as_deref()) {
        Some(target) => folders.iter().map(|folder| walker.workspace.resolve(folder, target)).collect(),
        None => folders,
    }
}

fn path_use(walker: &Walker<'_>, folders: &[String], access: Access, text: String) -> PathUse {
    let (mut forms, mut place) = (Vec::new(), None);
    for folder in folders {
        let resolved = walker.workspace.resolve(folder, &text);
        let here = walker.workspace.place(&resolved);
        // The worst of the places.
        place = Some(match (place, here) {
            (None, here) => here,
            (Some(Place::Outside), _) | (_, Place::Outside) => Place::Outside,
            (Some(Place::Unknown), _) | (_, Place::Unknown) => Place::Unknown,
            (Some(Place::Temporary), _) | (_, Place::Temporary) => Place::Temporary,
            (Some(Place::Inside), Place::Inside) => Place::Inside,
        });
        forms.push(walker.workspace.forms(&resolved));
    }
    PathUse { text, access, forms, place: place.unwrap_or(Place::Unknown), is_redirected: false, pointer: None }
}

fn is_code(name: &str) -> bool {
    CODE.contains(&name) || CODE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
