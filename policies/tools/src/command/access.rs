//! The files that a command names, and what it does with them.
//!
//! Each argument that could be the name of a file counts as read, whatever the program is. For programs that change files,
//! the table says which arguments these are.

use crate::act::{Access, Command};
use crate::text::is_open;

/// Programs to which the name of a file is only a text, or which do not open it.
const NAMES_ONLY: &[&str] = &[
    "echo",
    "printf",
    "ls",
    "ll",
    "stat",
    "test",
    "[",
    "[[",
    "cd",
    "pushd",
    "basename",
    "dirname",
    "realpath",
    "readlink",
    "which",
    "type",
    "file",
    "du",
    "df",
    "export",
    "alias",
    "read",
    "kill",
    "sleep",
    "exit",
    "return",
    "true",
    "false",
    ":",
    "man",
    "git-check-ignore",
    "set",
    "unset",
    "trap",
    "seq",
    "date",
    "ssh-keygen",
    "ssh-add",
    "ps",
    "pgrep",
    "pkill",
    "killall",
    "fd",
    "fdfind",
    "tree",
];

/// Which operands a program changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    All,
    /// All but the first: that is a mode, an owner or a program.
    Rest,
    /// The last one; the others are read.
    Last,
    /// The last one; the others are deleted.
    Move,
}

const CHANGES: &[(&[&str], Operands, Access)] = &[
    (&["rm", "rmdir", "unlink", "shred", "srm", "trash", "wipe"], Operands::All, Access::Delete),
    (&["touch", "mkdir", "tee", "truncate", "mkfifo", "mknod", "sponge", "fallocate"], Operands::All, Access::Write),
    (&["chmod", "chown", "chgrp", "chattr", "setfacl"], Operands::Rest, Access::Write),
    (&["cp", "install", "ln", "rsync", "scp", "gcp", "ginstall"], Operands::Last, Access::Write),
    (&["mv", "gmv", "rename"], Operands::Move, Access::Write),
];

/// Options whose value is a file or folder that is written.
const OUTPUTS: &[(&[&str], &[&str])] = &[
    (&["curl"], &["-o", "--output", "--output-dir", "-D", "-c", "--cookie-jar"]),
    (&["wget", "wget2"], &["-O", "--output-document", "-P", "--directory-prefix", "-o"]),
    (&["unzip"], &["-d"]),
    (&["cp", "mv", "ln", "install"], &["-t", "--target-directory"]),
    (&["sort"], &["-o", "--output"]),
    (&["gcc", "cc", "clang", "g++", "rustc", "go"], &["-o"]),
    (&["gpg", "gpg2", "openssl"], &["-o", "--output", "-out"]),
];

/// The files of a command, as they are given.
pub(super) fn of(command: &Command, arguments: &[String]) -> Vec<(Access, String)> {
    let program = command.program.as_str();
    let mut found: Vec<(Access, String)> = Vec::new();
    let operands: Vec<&str> = command.operands.iter().map(|operand| operand.text.as_str()).collect();
    let change = CHANGES.iter().find(|(names, ..)| names.contains(&program));
    let only_read = |text: &&str| *text != "-" && !text.is_empty();
    match change {
        Some((_, Operands::All, access)) => found.extend(operands.iter().map(|text| (*access, (*text).to_owned()))),
        Some((_, Operands::Rest, access)) => {
            let skip = usize::from(command.option(&["--reference"]).is_none());
            found.extend(operands.iter().skip(skip).map(|text| (*access, (*text).to_owned())));
        }
        Some((_, kind, access)) => {
            let has_target = command.option(&["-t", "--target-directory"]).is_some();
            let (target, sources) = match operands.split_last() {
                Some((last, rest)) if !has_target => (Some(*last), rest),
                _ => (None, operands.as_slice()),
            };
            for source in sources {
                found.push((Access::Read, (*source).to_owned()));
                if *kind == Operands::Move {
                    found.push((Access::Delete, (*source).to_owned()));
                }
            }
            found.extend(target.map(|target| (*access, target.to_owned())));
        }
        None if program == "find" => of_find(&operands, arguments, &mut found),
        None if program == "dd" => {
            for word in &operands {
                if let Some(file) = word.strip_prefix("of=") {
                    found.push((Access::Write, file.to_owned()));
                } else if let Some(file) = word.strip_prefix("if=") {
                    found.push((Access::Read, file.to_owned()));
                }
            }
        }
        None if matches!(program, "tar" | "bsdtar") => of_tar(command, arguments, &operands, &mut found),
        None if matches!(program, "sed" | "perl" | "ruby") && in_place(arguments) => {
            let skip = usize::from(command.option(&["-e", "--expression", "-f", "--file"]).is_none());
            found.extend(operands.iter().skip(skip).map(|text| (Access::Write, (*text).to_owned())));
        }
        None if NAMES_ONLY.contains(&program) => return outputs(command, found),
        None => {
            for word in operands.iter().filter(|word| only_read(word)) {
                mentioned(word, &mut found);
            }
        }
    }
    // The values of options: `--file=NAME`, `-f NAME`, `-d @NAME`.
    if !NAMES_ONLY.contains(&program) {
        let known = super::programs::options(program).valued;
        for option in &command.options {
            if let Some(value) = &option.value {
                // Of `-rf`, the `f` is another option, and of `-f/a` the path of a file.
                let is_value = option.name.starts_with("--") || known.contains(&option.name.as_str());
                if is_value || value.contains('/') || value.starts_with(['@', '~', '.']) {
                    mentioned(value, &mut found);
                }
            }
        }
    }
    outputs(command, found)
}

/// What an argument may name: itself, what follows `=` or `@`, and the path of `HOST:PATH`.
fn mentioned(word: &str, found: &mut Vec<(Access, String)>) {
    let mut add = |text: &str| {
        if !text.is_empty() && text.len() <= 4096 {
            found.push((Access::Read, text.to_owned()));
        }
    };
    add(word);
    for separator in ['=', '@', ':'] {
        if let Some((_, rest)) =
            word.split_once(separator).filter(|_| !word.contains("://") || word.starts_with("file:"))
        {
            add(rest.strip_prefix("//").unwrap_or(rest).trim_start_matches('@'));
        }
    }
}

fn of_find(operands: &[&str], arguments: &[String], found: &mut Vec<(Access, String)>) {
    let starts = arguments.iter().skip_while(|word| matches!(word.as_str(), "-H" | "-L" | "-P"));
    let starts: Vec<&String> =
        starts.take_while(|word| !word.starts_with('-') && !matches!(word.as_str(), "(" | "!" | ",")).collect();
    let here = ".".to_owned();
    let deletes = arguments.iter().any(|word| word == "-delete");
    if deletes {
        let starts = if starts.is_empty() { vec![&here] } else { starts };
        found.extend(starts.into_iter().map(|start| (Access::Delete, start.clone())));
    }
    // `-fprint FILE` and its like; what is searched for is only a name.
    for (index, _) in arguments.iter().enumerate().filter(|(_, word)| word.starts_with("-fprint") || *word == "-fls") {
        found.extend(
            arguments
                .get(index + 1)
                .filter(|file| operands.contains(&file.as_str()))
                .map(|file| (Access::Write, file.clone())),
        );
    }
}

fn of_tar(command: &Command, arguments: &[String], operands: &[&str], found: &mut Vec<(Access, String)>) {
    // `tar xf FILE` needs no dash.
    let bundle = arguments.first().filter(|word| !word.starts_with('-')).map(String::as_str).unwrap_or_default();
    let creates =
        bundle.contains(['c', 'r', 'u']) || command.option(&["-c", "--create", "-r", "--append", "-u"]).is_some();
    let skip = usize::from(!bundle.is_empty());
    let mut operands = operands.iter().skip(skip);
    let archive = if bundle.contains('f') {
        operands.next().map(|text| (*text).to_owned())
    } else {
        command.option(&["-f", "--file"]).and_then(|option| option.value.clone())
    };
    let access = if creates { Access::Write } else { Access::Read };
    found.extend(archive.filter(|archive| archive != "-").map(|archive| (access, archive)));
    if creates {
        found.extend(operands.map(|text| (Access::Read, (*text).to_owned())));
    } else if let Some(folder) = command.option(&["-C", "--directory"]).and_then(|option| option.value.clone()) {
        // The folder itself: `-C` also holds for the paths of the command.
        found.push((
            Access::Write,
            if folder.starts_with(['/', '~']) || is_open(&folder) { folder } else { ".".to_owned() },
        ));
    }
}

fn in_place(arguments: &[String]) -> bool {
    arguments.iter().any(|word| {
        word.starts_with("--in-place") || word.starts_with('-') && !word.starts_with("--") && word.contains('i')
    })
}

fn outputs(command: &Command, mut found: Vec<(Access, String)>) -> Vec<(Access, String)> {
    let names = OUTPUTS.iter().filter(|(programs, _)| programs.contains(&command.program.as_str()));
    let names: Vec<&str> = names.flat_map(|(_, names)| names.iter().copied()).collect();
    let written = command.options.iter().filter(|option| names.contains(&option.name.as_str()));
    found.extend(
        written
            .filter_map(|option| option.value.clone())
            .filter(|value| value != "-")
            .map(|value| (Access::Write, value)),
    );
    found
}
