//! The stand-in's only tool: it runs a command with `/bin/sh`.

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

/// How many bytes of a command's output are in the answer; the rest is only streamed.
const MAX_KEPT: usize = 1024 * 1024;
/// How long a silent background process may hold the output open after the command's end.
const GRACE: Duration = Duration::from_millis(200);

/// The process group of the running command, if there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Option<Pid>>>);

impl Running {
    fn set(&self, group: Option<Pid>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }

    /// Terminates the command with its process group.
    pub(super) fn stop(&self) {
        if let Some(group) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It may have ended just now; then there is nothing to stop.
            let _ = killpg(group, Signal::SIGTERM);
        }
    }
}

/// The result of a command.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) text: String,
    /// As in a shell: 128 plus the number for death by a signal.
    pub(super) code: i32,
}

/// Runs `command` in `cwd` and passes on its output, both streams in the order in which they were written.
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
    let (sender, receiver) = mpsc::channel();
    let of_reader = sender.clone();
    thread::spawn(move || read(&mut reader, &of_reader));
    thread::spawn(move || sender.send(Message::Ended(child.wait())));
    let done = collect(&receiver, &mut more);
    if done.is_err() {
        running.stop();
    }
    running.set(None);
    done
}

/// A message of the two threads of a command.
enum Message {
    Output(Vec<u8>),
    Closed,
    Ended(io::Result<ExitStatus>),
}

fn read(reader: &mut impl Read, sender: &Sender<Message>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let message = match reader.read(&mut buffer) {
            Ok(count @ 1..) => Message::Output(buffer.get(..count).unwrap_or_default().to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => Message::Closed,
        };
        let last = matches!(message, Message::Closed);
        if sender.send(message).is_err() || last {
            return;
        }
    }
}

/// Takes output, passing on whole characters and keeping the first part, until the command has ended and its output is
/// closed. A background process that holds the output open is not waited for.
fn collect(receiver: &Receiver<Message>, more: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<Output> {
    let mut text = Text::default();
    let (mut closed, mut ended) = (false, None);
    loop {
        let message = match (ended, closed) {
            (Some(status), true) => return text.finish(status, more),
            (Some(status), false) => match receiver.recv_timeout(GRACE) {
                Ok(message) => message,
                Err(_) => return text.finish(status, more),
            },
            (None, _) => receiver.recv().map_err(|_| io::Error::other("the threads of the command have ended"))?,
        };
        match message {
            Message::Output(bytes) => text.push(&bytes, more)?,
            Message::Closed => closed = true,
            Message::Ended(status) => ended = Some(status?),
        }
    }
}

/// Output as text.
#[derive(Default)]
struct Text {
    kept: String,
    /// The start of an incomplete character.
    pending: Vec<u8>,
}

impl Text {
    fn push(&mut self, bytes: &[u8], more: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        self.take(whole_characters(&self.pending), more)
    }

    fn take(&mut self, length: usize, more: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let text = String::from_utf8_lossy(self.pending.get(..length).unwrap_or_default()).into_owned();
        self.pending.drain(..length);
        if text.is_empty() {
            return Ok(());
        }
        more(&text)?;
        let room = MAX_KEPT.saturating_sub(self.kept.len());
        self.kept.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        Ok(())
    }

    fn finish(mut self, status: ExitStatus, more: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<Output> {
        self.take(self.pending.len(), more)?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ok(Output { text: self.kept, code })
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
    fn output_of_both_streams_is_in_order_with_the_exit_code() {
        let output = output("echo one; echo two >&2; echo three; exit 7");
        assert_eq!((output.text.as_str(), output.code), ("one\ntwo\nthree\n", 7));
    }

    #[test]
    fn death_by_a_signal_gives_the_exit_code_of_a_shell() {
        assert_eq!(output("kill -TERM $$").code, 143);
    }

    #[test]
    fn character_split_by_two_reads_is_joined() {
        let mut pieces = Vec::new();
        let mut more = |piece: &str| {
            pieces.push(piece.to_owned());
            Ok(())
        };
        let mut text = Text::default();
        for byte in "aé€🎭".bytes() {
            text.push(&[byte], &mut more).unwrap();
        }
        text.push(b"\xe2\x82", &mut more).unwrap();
        let output = text.finish(ExitStatus::from_raw(0), &mut more).unwrap();
        assert_eq!(output.text, "aé€🎭\u{fffd}");
        assert_eq!(pieces, ["a", "é", "€", "🎭", "\u{fffd}"]);
    }

    #[test]
    fn background_process_is_not_waited_for() {
        let start = std::time::Instant::now();
        let output = output("sleep 20 & echo $!");
        assert!(start.elapsed() < Duration::from_secs(10));
        let pid: i32 = output.text.trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
}
