//! Commands that run other commands.

use super::programs::{INTERPRETERS, SHELLS};
use crate::act::Command;
use crate::shell::{Stdin, Walker};
use crate::text::{DYNAMIC, is_open, shown};

/// What a command runs.
#[derive(Debug, PartialEq)]
pub(super) enum Inner {
    /// A command with these words.
    Command(Vec<String>),
    /// A script in a copy of the current shell.
    Script(String),
    /// A script in the current shell.
    Here(String),
    /// A script in another shell, which reads the command's standard input.
    Shell(String),
    /// It cannot be said what is run.
    Unknown(String),
}

/// A command whose arguments are another command.
struct Wrapper {
    names: &'static [&'static str],
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options without a value. Behind an option that is not listed, each word may be its value or the command.
    flags: &'static [&'static str],
    /// Subcommands before the command; any operand for `*`.
    before: &'static [&'static str],
    /// The words are joined and given to a shell.
    joined: bool,
    /// Arguments that are not known are added to the command.
    more: bool,
}

const PLAIN: Wrapper = Wrapper { names: &[], valued: &[], flags: &[], before: &[], joined: false, more: false };

const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        names: &["env"],
        valued: &["-u", "--unset", "-C", "--chdir", "-S", "--split-string"],
        flags: &["-i", "--ignore-environment", "-0", "-v", "-"],
        ..PLAIN
    },
    Wrapper {
        names: &["sudo", "sudoedit"],
        valued: &["-u", "--user", "-g", "--group", "-h", "--host", "-p", "-C", "-r", "-t", "-T", "-U", "-D", "-R"],
        flags: &["-A", "-b", "-E", "-H", "-i", "-k", "-K", "-l", "-n", "-P", "-S", "-s", "-v", "-B"],
        ..PLAIN
    },
    Wrapper { names: &["doas"], valued: &["-u", "-C"], flags: &["-n", "-s", "-L"], ..PLAIN },
    Wrapper { names: &["pkexec"], valued: &["--user"], flags: &[], ..PLAIN },
    Wrapper { names: &["runuser"], valued: &["-u", "-g", "-G"], flags: &["-l", "-m"], ..PLAIN },
    Wrapper { names: &["gosu", "su-exec"], before: &["*"], ..PLAIN },
    Wrapper {
        names: &["nohup", "setsid", "unbuffer", "caffeinate", "busybox", "toybox", "builtin", "noglob", "nocorrect"],
        flags: &["-f", "-c", "-w", "-i", "-s", "-d"],
        ..PLAIN
    },
    Wrapper { names: &["command"], flags: &["-p"], ..PLAIN },
    Wrapper { names: &["exec"], valued: &["-a"], flags: &["-c", "-l"], ..PLAIN },
    Wrapper { names: &["time"], valued: &["-f", "-o", "--format", "--output"], flags: &["-p", "-v", "-a"], ..PLAIN },
    Wrapper {
        names: &["timeout", "gtimeout"],
        valued: &["-s", "--signal", "-k", "--kill-after"],
        flags: &["--foreground", "--preserve-status", "-v", "--verbose"],
        before: &["*"],
        ..PLAIN
    },
    Wrapper { names: &["nice"], valued: &["-n", "--adjustment"], ..PLAIN },
    Wrapper { names: &["ionice"], valued: &["-c", "-n", "--class", "--classdata"], flags: &["-t"], ..PLAIN },
    Wrapper { names: &["chrt"], valued: &[], flags: &["-b", "-f", "-i", "-o", "-r"], before: &["*"], ..PLAIN },
    Wrapper { names: &["taskset"], flags: &["-c"], before: &["*"], ..PLAIN },
    Wrapper { names: &["stdbuf"], valued: &["-i", "-o", "-e", "--input", "--output", "--error"], ..PLAIN },
    Wrapper { names: &["chroot"], valued: &["--userspec", "--groups"], before: &["*"], ..PLAIN },
    Wrapper {
        names: &["flock"],
        valued: &["-w", "--timeout", "-E"],
        flags: &["-n", "-x", "-s", "-e", "-u"],
        before: &["*"],
        ..PLAIN
    },
    Wrapper {
        names: &["strace", "ltrace"],
        valued: &["-e", "-o", "-p", "-s", "-P", "-u", "-E"],
        flags: &["-f", "-ff", "-c", "-tt", "-t", "-y"],
        ..PLAIN
    },
    Wrapper {
        names: &[
            "faketime",
            "proxychains",
            "proxychains4",
            "torsocks",
            "dbus-run-session",
            "xvfb-run",
            "setarch",
            "unshare",
            "nsenter",
            "firejail",
            "bwrap",
            "systemd-run",
            "setpriv",
            "catchsegv",
            "valgrind",
            "perf",
            "hyperfine",
            "entr",
        ],
        ..PLAIN
    },
    Wrapper {
        names: &["xargs", "gxargs"],
        valued: &[
            "-I",
            "-n",
            "-P",
            "-L",
            "-d",
            "-E",
            "-s",
            "-a",
            "--max-args",
            "--max-procs",
            "--replace",
            "--delimiter",
            "--arg-file",
        ],
        flags: &["-0", "--null", "-r", "--no-run-if-empty", "-t", "-p", "-x", "-o"],
        more: true,
        ..PLAIN
    },
    Wrapper {
        names: &["parallel"],
        valued: &["-j", "--jobs", "-a", "-I", "-N"],
        flags: &["-0", "-k", "--bar"],
        more: true,
        joined: true,
        ..PLAIN
    },
    Wrapper {
        names: &["watch"],
        valued: &["-n", "--interval"],
        flags: &["-d", "-t", "-b", "-e", "-g", "-c", "-x"],
        joined: true,
        ..PLAIN
    },
    Wrapper { names: &["eval"], joined: true, ..PLAIN },
    Wrapper { names: &["uv", "poetry", "pipenv", "pdm", "hatch", "rye"], before: &["run"], ..PLAIN },
    Wrapper {
        names: &["bundle", "pnpm", "yarn", "mise", "rtx", "asdf", "direnv", "npm", "docker-compose"],
        before: &["exec"],
        ..PLAIN
    },
    Wrapper {
        names: &["npx", "bunx", "pnpx"],
        valued: &["-p", "--package"],
        flags: &["-y", "--yes", "--no-install"],
        ..PLAIN
    },
    Wrapper { names: &["rtk"], ..PLAIN },
];

/// Suffixes of the words of a wrapper with unknown options that are looked at as commands.
const MAX_GUESSES: usize = 4;

/// Keys of git whose values are commands.
const GIT_COMMANDS: &[&str] = &[
    "core.sshcommand",
    "core.pager",
    "core.editor",
    "core.fsmonitor",
    "core.askpass",
    "core.gitproxy",
    "diff.external",
    "sequence.editor",
    "credential.helper",
    "gpg.program",
    "interactive.difffilter",
    "pager.",
];

/// The commands that a command runs.
pub(super) fn inner(command: &Command, arguments: &[String], stdin: &Stdin, walker: &mut Walker<'_>) -> Vec<Inner> {
    let program = command.program.as_str();
    let operand = |index: usize| command.operands.get(index).map(|operand| operand.text.as_str());
    let mut found = Vec::new();
    match program {
        "find" | "fd" | "fdfind" => found.extend(of_find(command, arguments)),
        "git" => of_git(command, arguments, &mut found),
        "." | "source" if operand(0) == Some(&DYNAMIC.to_string()) => {
            found.push(Inner::Unknown("a script is read from the output of a command".to_owned()));
        }
        "su" | "script" | "nix-shell" | "flock" | "sg" => {
            let script = command.option(&["-c", "--command", "--run"]);
            found.extend(
                script
                    .and_then(|option| option.value.clone().or_else(|| after(arguments, &option.name)))
                    .map(Inner::Shell),
            );
            if program == "su" {
                found.extend(after(arguments, "-c").map(Inner::Shell));
            }
        }
        "trap" => found.extend(operand(0).map(|script| Inner::Script(script.to_owned()))),
        "ssh" if command.operands.len() > 1 => {
            found.push(Inner::Script(join(command.operands[1..].iter().map(|operand| operand.text.as_str()))));
        }
        "fc" | "history" => {}
        _ if SHELLS.contains(&program) => found.extend(of_shell(command, stdin)),
        _ if INTERPRETERS.contains(&program) => {
            let reads_stdin =
                operand(0).is_none_or(|operand| operand == "-") && arguments.iter().all(|word| word == "-");
            if reads_stdin && *stdin == Stdin::Unknown {
                found.push(Inner::Unknown(format!("{program} runs text that comes from another command")));
            }
        }
        _ => {}
    }
    if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&program)) {
        wrapped(wrapper, arguments, &mut found, walker);
    }
    found
}

fn join<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn after(arguments: &[String], option: &str) -> Option<String> {
    arguments.iter().position(|argument| argument == option).and_then(|at| arguments.get(at + 1)).cloned()
}

fn words_after(arguments: &[String], subcommand: &str) -> Vec<String> {
    arguments.iter().skip_while(|word| *word != subcommand).skip(1).cloned().collect()
}

fn of_shell(command: &Command, stdin: &Stdin) -> Option<Inner> {
    let program = &command.program;
    let script = command.operands.first().map(|operand| operand.text.as_str());
    if let Some(option) = command.option(&["-c", "--command"]) {
        let script = option.value.as_deref().filter(|_| option.name == "--command").or(script)?;
        return Some(
            if script.trim_matches(|c: char| c == DYNAMIC || c.is_whitespace()).is_empty() && !script.trim().is_empty()
            {
                Inner::Unknown(format!("{program} runs a script that is only known when the command runs"))
            } else {
                Inner::Shell(script.to_owned())
            },
        );
    }
    let reads_stdin = command.option(&["-s"]).is_some() || script.is_none_or(|file| matches!(file, "-" | "/dev/stdin"));
    match (stdin, script) {
        (Stdin::Text(script), _) if reads_stdin => Some(Inner::Shell(script.clone())),
        (Stdin::Unknown, _) if reads_stdin => {
            Some(Inner::Unknown(format!("{program} runs text that comes from another command")))
        }
        (_, Some(file)) if file.chars().all(|c| c == DYNAMIC) => {
            Some(Inner::Unknown(format!("{program} runs a script that is only known when the command runs")))
        }
        _ => None,
    }
}

fn of_find(command: &Command, arguments: &[String]) -> Vec<Inner> {
    let mut found = Vec::new();
    let starts = arguments.iter().skip_while(|word| matches!(word.as_str(), "-H" | "-L" | "-P"));
    let starts = starts.take_while(|word| !word.starts_with('-') && !matches!(word.as_str(), "(" | "!"));
    // The files that are found are in the folders where it starts.
    let mut files: Vec<String> = Vec::new();
    if command.program == "find" {
        files.extend(starts.map(|start| format!("{}/{DYNAMIC}", start.trim_end_matches('/'))));
    }
    if files.is_empty() {
        files.push(format!("./{DYNAMIC}"));
    }
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        at += 1;
        if !matches!(
            argument.as_str(),
            "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "-X" | "--exec" | "--exec-batch"
        ) {
            continue;
        }
        let end = arguments[at..]
            .iter()
            .position(|word| word == ";" || word == "+")
            .map_or(arguments.len(), |length| at + length);
        let mut words = Vec::new();
        for word in &arguments[at..end] {
            match files.as_slice() {
                _ if word == "{}" => words.extend(files.iter().cloned()),
                [file] => words.push(word.replace("{}", file)),
                _ => words.push(word.replace("{}", &DYNAMIC.to_string())),
            }
        }
        at = end;
        found.push(Inner::Command(words));
    }
    found
}

fn of_git(command: &Command, arguments: &[String], found: &mut Vec<Inner>) {
    let settings =
        command.options.iter().filter(|option| option.name == "-c").filter_map(|option| option.value.as_deref());
    for (key, value) in settings.filter_map(|setting| setting.split_once('=')) {
        git_setting(key, value, found);
    }
    let operands: Vec<&str> = command.operands.iter().map(|operand| operand.text.as_str()).collect();
    match operands.as_slice() {
        ["config", rest @ ..] => {
            let rest = rest.strip_prefix(&["set"]).unwrap_or(rest);
            if let [key, value, ..] = rest {
                git_setting(key, value, found);
            }
        }
        ["bisect", "run", ..] => found.push(Inner::Command(words_after(arguments, "run"))),
        ["submodule", "foreach", ..] => {
            let words = words_after(arguments, "foreach").into_iter().skip_while(|word| word.starts_with('-'));
            found.push(Inner::Script(words.collect::<Vec<_>>().join(" ")));
        }
        ["rebase", ..] => {
            found.extend(after(arguments, "-x").or_else(|| after(arguments, "--exec")).map(Inner::Script));
            let exec = command.option(&["--exec"]).and_then(|option| option.value.clone());
            found.extend(exec.map(Inner::Script));
        }
        ["filter-branch", ..] => {
            for (index, _) in arguments.iter().enumerate().filter(|(_, word)| word.ends_with("-filter")) {
                found.extend(arguments.get(index + 1).cloned().map(Inner::Script));
            }
        }
        _ => {}
    }
}

fn git_setting(key: &str, value: &str, found: &mut Vec<Inner>) {
    let key = key.to_ascii_lowercase();
    if let Some(script) = value.strip_prefix('!') {
        found.push(Inner::Script(script.to_owned()));
    } else if key.starts_with("alias.") {
        found.push(Inner::Script(format!("git {value}")));
    } else if GIT_COMMANDS.iter().any(|name| key.starts_with(name))
        || key.ends_with(".command")
        || key.ends_with(".cmd")
    {
        found.push(Inner::Script(value.to_owned()));
    } else if key == "core.hookspath" {
        found.push(Inner::Unknown(format!("git runs the hooks in {}", shown(value))));
    }
}

/// The command behind the options of a wrapper.
fn wrapped(wrapper: &Wrapper, arguments: &[String], found: &mut Vec<Inner>, walker: &mut Walker<'_>) {
    let (mut at, mut guesses, mut before) = (0, 0, wrapper.before.iter());
    let mut placeholder = wrapper.more.then_some("{}");
    let mut next = before.next();
    while let Some(word) = arguments.get(at) {
        let is_env = wrapper.names.contains(&"env") || wrapper.names.contains(&"sudo");
        if word == "--" {
            at += 1;
            break;
        }
        if word.starts_with('-') && (word.len() > 1 || wrapper.flags.contains(&"-")) {
            let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
            let attached = wrapper.valued.iter().find(|valued| valued.len() == 2 && word.starts_with(**valued));
            if let (Some(script), true) = (split_string(word, arguments.get(at + 1)), wrapper.names.contains(&"env")) {
                found.push(Inner::Script(script));
            }
            match word.strip_prefix("-I").or_else(|| word.strip_prefix("--replace=")) {
                Some("") => placeholder = arguments.get(at + 1).map(String::as_str),
                Some(attached) => placeholder = Some(attached),
                None => {}
            }
            if word == name && wrapper.valued.contains(&name) {
                at += 1;
            } else if !(wrapper.flags.contains(&name)
                || attached.is_some()
                || word != name
                || is_cluster(wrapper, word))
            {
                guesses += 1;
            }
        } else if is_env && word.contains('=') && !word.starts_with('=') {
            walker.assign_field(word);
        } else if let Some(subcommand) = next {
            if *subcommand != "*" && word != subcommand {
                return;
            }
            next = before.next();
        } else {
            break;
        }
        at += 1;
    }
    if next.is_some_and(|next| *next != "*") || at >= arguments.len() {
        return;
    }
    let guesses = guesses.min(MAX_GUESSES);
    for begin in (at..arguments.len()).take(1 + guesses) {
        let mut words: Vec<String> = arguments[begin..].to_vec();
        if begin > at && words[0].starts_with('-') {
            continue;
        }
        if wrapper.more {
            if let Some(placeholder) = placeholder {
                words = words.iter().map(|word| word.replace(placeholder, &DYNAMIC.to_string())).collect();
            }
            words.push(DYNAMIC.to_string());
        }
        if wrapper.joined {
            found.push(Inner::Here(join(words.iter().map(String::as_str))));
        } else {
            // What only might be the command and has no known name is not reported as unknown.
            if begin > at && is_open(&words[0]) {
                continue;
            }
            found.push(Inner::Command(words));
        }
    }
}

/// Whether every letter of a cluster is a flag.
fn is_cluster(wrapper: &Wrapper, word: &str) -> bool {
    !word.starts_with("--")
        && word.chars().skip(1).all(|letter| {
            letter.is_ascii_digit() || wrapper.flags.iter().any(|flag| flag.len() == 2 && flag.ends_with(letter))
        })
}

/// The command line of `env -S`.
fn split_string(word: &str, next: Option<&String>) -> Option<String> {
    let attached =
        word.strip_prefix("--split-string=").or_else(|| word.strip_prefix("-S").filter(|rest| !rest.is_empty()));
    attached
        .map(str::to_owned)
        .or_else(|| next.filter(|_| matches!(word, "-S" | "--split-string" | "-vS" | "-iS")).cloned())
}
