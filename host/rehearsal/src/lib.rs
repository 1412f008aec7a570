//! A scripted stand-in agent, to try everything around an agent without one.
//!
//! `ostler __rehearse` behaves like a coding-agent CLI: it reads a prompt from standard input, keeps sessions that can
//! be resumed, streams an answer, runs commands as a tool, reports its usage and ends with a result. It does not use
//! a model: the first word of the prompt's first line says what to do (`SAY`, `RUN`, `SLOW`, `FAIL`, ...), anything
//! else is echoed. Its help, its model name and a notice at the start of each answer say so.
//!
//! It costs nothing and needs no account. A newcomer can see a whole run with it, a platform team can test its policies
//! and redaction rules, and the end-to-end suites use it as a test double, including hostile behaviour.
//!
//! [`script`] reads the prompt, [`perform`] executes it, [`protocol`] writes the output, [`session`] stores
//! conversations, [`shell`] is its only tool, [`faults`] misbehaves on request and [`leak`] generates the made-up
//! secrets that it prints. [`talk`] is the two-way protocol of a conversation.

mod args;
mod faults;
mod leak;
mod perform;
mod protocol;
mod script;
mod session;
mod shell;
mod signals;
mod talk;

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    process::ExitCode,
};

/// The hidden verb with which the host's binary runs as the stand-in agent.
pub const VERB: &str = "__rehearse";

/// Longest prompt that is read; as long as the longest line that the host reads of an agent.
const MAX_PROMPT: u64 = 16 * 1024 * 1024;

/// Runs the stand-in with the arguments after [`VERB`], and returns its exit code: 0 on success, 1 on failure, 2 if its
/// command line or prompt was refused.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let code = match args::parse(args) {
        Ok(args::Command::Help) => print(&args::help()),
        Ok(args::Command::Version) => print(&format!("{}\n", args::version())),
        Ok(args::Command::Extra(role)) => faults::act_as(role),
        Ok(args::Command::Perform(options)) => perform_prompt(&options),
        Err(problems) => {
            for problem in problems {
                print_error(&format!("error: {problem}"));
            }
            print_error("see `ostler __rehearse --help`");
            2
        }
    };
    ExitCode::from(code)
}

fn print(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

/// Prints one line on standard error, with the program's name as prefix. Ignores a closed standard error.
fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "rehearsal: {message}");
}

fn perform_prompt(options: &args::Options) -> u8 {
    if options.talk {
        return exit_code(talk::converse(options));
    }
    let mut bytes = Vec::new();
    if let Err(error) = io::stdin().take(MAX_PROMPT + 1).read_to_end(&mut bytes) {
        print_error(&format!("error: failed to read the prompt from standard input: {error}"));
        return 2;
    }
    if bytes.len() as u64 > MAX_PROMPT {
        print_error(&format!("error: the prompt is longer than {} MiB", MAX_PROMPT >> 20));
        return 2;
    }
    let prompt = String::from_utf8_lossy(&bytes);
    if prompt.trim().is_empty() {
        print_error("error: no prompt on standard input");
        return 2;
    }
    exit_code(perform::perform(options, &prompt))
}

/// The exit code of a performance, after a message if there is none.
fn exit_code(result: Result<u8, perform::Stop>) -> u8 {
    match result {
        Ok(code) => code,
        Err(perform::Stop::Refused(message)) => {
            print_error(&format!("error: {message}"));
            2
        }
        Err(perform::Stop::NoSession(id)) => {
            print_error(&format!("error: no session with id {id}"));
            1
        }
        // The reader of the output has gone, or the disk is full: only standard error is left for the message.
        Err(perform::Stop::Io(error)) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                print_error(&format!("error: {error}"));
            }
            1
        }
    }
}
