//! A scripted stand-in agent, so that everything around an agent can be tried without one.
//!
//! `ostler __rehearse` behaves like a coding-agent CLI: it reads a prompt from standard input, keeps sessions that can
//! be resumed, streams an answer, runs commands as a tool, reports its usage and ends with a result. Only the thinking
//! is missing: the first word of the prompt's first line says what to do (`SAY`, `RUN`, `SLOW`, `FAIL`, ...), anything
//! else is echoed. It says so itself, in its help, in its model name and in a notice at the start of each answer.
//!
//! It costs nothing and needs no account. A newcomer sees a whole run with it, a platform team rehearses its policies
//! and redaction rules with it, and the end-to-end suites use it as their double, hostile behaviour included.
//!
//! [`script`] reads the prompt, [`perform`] acts it out, [`protocol`] is what comes out of it, [`session`] remembers
//! conversations, [`shell`] is its one tool, [`faults`] are the ways in which it misbehaves on request and [`leak`] the
//! made-up secrets that it gives away.

mod args;
mod faults;
mod leak;
mod perform;
mod protocol;
mod script;
mod session;
mod shell;
mod signals;

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    process::ExitCode,
};

/// The hidden verb under which the host's own binary is the stand-in agent.
pub const VERB: &str = "__rehearse";

/// Longest prompt that is read; as long as the longest line that the host reads of an agent.
const MAX_PROMPT: u64 = 16 * 1024 * 1024;

/// Runs the stand-in with the arguments that follow [`VERB`], and gives its exit code: 0 when it did what was asked,
/// 1 when it failed, 2 when its command line or its prompt was refused.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let code = match args::parse(args) {
        Ok(args::Command::Help) => print(&args::help()),
        Ok(args::Command::Version) => print(&format!("{}\n", args::version())),
        Ok(args::Command::Extra(role)) => faults::act_as(role),
        Ok(args::Command::Perform(options)) => perform_prompt(&options),
        Err(problems) => {
            for problem in problems {
                complain(&format!("error: {problem}"));
            }
            complain("see `ostler __rehearse --help`");
            2
        }
    };
    ExitCode::from(code)
}

fn print(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

/// One line on standard error, prefixed with the program's name. A closed standard error is nobody's loss.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "rehearsal: {message}");
}

fn perform_prompt(options: &args::Options) -> u8 {
    let mut bytes = Vec::new();
    if let Err(error) = io::stdin().take(MAX_PROMPT + 1).read_to_end(&mut bytes) {
        complain(&format!("error: failed to read the prompt from standard input: {error}"));
        return 2;
    }
    if bytes.len() as u64 > MAX_PROMPT {
        complain(&format!("error: the prompt is longer than {} MiB", MAX_PROMPT >> 20));
        return 2;
    }
    let prompt = String::from_utf8_lossy(&bytes);
    if prompt.trim().is_empty() {
        complain("error: no prompt on standard input");
        return 2;
    }
    match perform::perform(options, &prompt) {
        Ok(code) => code,
        Err(perform::Stop::Refused(message)) => {
            complain(&format!("error: {message}"));
            2
        }
        Err(perform::Stop::NoSession(id)) => {
            complain(&format!("error: no session with id {id}"));
            1
        }
        // Whoever read the output has gone, or the disk is full: there is nobody to tell but standard error.
        Err(perform::Stop::Io(error)) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                complain(&format!("error: {error}"));
            }
            1
        }
    }
}
