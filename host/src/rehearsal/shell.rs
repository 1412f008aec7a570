//! The stand-in's one tool: it runs a command with `/bin/sh`.

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

/// How much of a command's output the answer keeps; the rest is streamed and then forgotten.
const KEPT: usize = 1024 * 1024;

/// The process group of the command that runs now, if one does.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Option<Pid>>>);

impl Running {
    fn set(&self, group: Option<Pid>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }

    /// Asks the command to end, with all that it started in its group.
    pub(super) fn stop(&self) {
        if let Some(group) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It may have ended in this very moment; then there is nothing to stop.
            let _ = killpg(group, Signal::SIGTERM);
        }
    }
}

/// What became of a command.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) text: String,
    /// As a shell says it: 128 and the number for death by a signal.
    pub(super) code: i32,
}

/// Runs `command` in `cwd` and hands over its output, both streams in the order in which they were written.
///
/// As other agents' tools do, it runs in a process group of its own, with no input. A startup file that `ENV` names is
/// read first: `/bin/sh` itself reads it for interactive shells only.
pub(super) fn run(
    command: &str,
    cwd: &Path,
    running: &Running,
    mut more: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<Output> {
    let script = format!("if [ -n \"${{ENV:-}}\" ] && [ -r \"$ENV\" ]; then . \"$ENV\"; fi\n{command}\n");
    let (mut reader, writer) = io::pipe()?;
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    running.set(i32::try_from(child.id()).ok().map(Pid::from_raw));
    let streamed = stream(&mut reader, &mut more);
    if streamed.is_err() {
        running.stop();
    }
    let status = child.wait();
    running.set(None);
    let text = streamed?;
    let status = status?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    Ok(Output { text, code })
}

/// Reads to the end, passing on whole characters, and keeps the first part.
fn stream(reader: &mut impl Read, more: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<String> {
    let mut kept = String::new();
    let mut pending = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let split = if count == 0 { pending.len() } else { whole_characters(&pending) };
        let text = String::from_utf8_lossy(pending.get(..split).unwrap_or_default()).into_owned();
        pending.drain(..split);
        if !text.is_empty() {
            more(&text)?;
            let room = KEPT.saturating_sub(kept.len());
            kept.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        }
        if count == 0 {
            return Ok(kept);
        }
    }
}

/// Length of the part that does not end in the middle of a character.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn output(command: &str) -> Output {
        run(command, Path::new("/"), &Running::default(), |_| Ok(())).unwrap()
    }

    #[test]
    fn both_streams_come_in_order_with_the_exit_code() {
        let output = output("echo one; echo two >&2; echo three; exit 7");
        assert_eq!((output.text.as_str(), output.code), ("one\ntwo\nthree\n", 7));
    }

    #[test]
    fn death_by_a_signal_is_told_as_a_shell_does() {
        assert_eq!(output("kill -TERM $$").code, 143);
    }

    #[test]
    fn a_character_cut_by_two_reads_stays_whole() {
        struct Slow(Vec<u8>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Ok(0);
                }
                buffer[0] = self.0.remove(0);
                Ok(1)
            }
        }
        let mut pieces = Vec::new();
        let text = stream(&mut Slow("aé€🎭".into()), &mut |piece: &str| {
            pieces.push(piece.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(text, "aé€🎭");
        assert_eq!(pieces, ["a", "é", "€", "🎭"]);
    }
}
