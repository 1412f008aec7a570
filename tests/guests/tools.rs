//! Plugins for tool uses: a policy with findings about them, and a provider that reports them.

use super::hostile::{Data, EVENT_WORDS, Sound, TOOL, guest_that_knows, marked_at, on, sound, step, texts};
use super::{NEW, OK};

/// The verdict of a policy on a tool use, in the order of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Warn,
    Ask,
    Deny,
}

/// Name of the check in the findings of [`policy`].
pub const CHECK: &str = "tool-marked";

/// A policy with one finding on each tool use that contains `word` (eight bytes), also in the facts that the host adds.
/// It has no finding on anything else.
pub fn policy(name: &str, word: &str, verdict: Verdict, message: &str) -> Vec<u8> {
    policy_that_wants(&[], TOOL, name, word, verdict, message)
}

/// The same for another action and with groups of facts.
pub fn policy_that_wants(
    wants: &[&str],
    action: u32,
    name: &str,
    word: &str,
    verdict: Verdict,
    message: &str,
) -> Vec<u8> {
    let mut data = Data::new();
    let (check, check_length) = data.text(CHECK);
    let (message, message_length) = data.text(message);
    // check; verdict; pointer: none; message; hint: none
    let finding = data.words(&[check, check_length, verdict as u32, 0, 0, 0, message, message_length, 0, 0, 0]);
    let list = data.words(&[finding, 1]);
    let evaluate = on(&marked_at(action), &format!("i32.const {list}"));
    let (wants, count) = texts(&mut data, wants);
    let wants = data.words(&[wants, count]);
    let wants = format!("i32.const {wants}");
    guest_that_knows(word, name, &data, OK, &[("wants", &wants), ("evaluate", &evaluate)]).policy()
}

/// A provider that runs `sh` on the file `script`. For output with `word`, it reports two results of the same tool use,
/// without a start. The output of the use is the word.
pub fn reporter_of_results(name: &str, word: &str) -> Vec<u8> {
    let mut data = Data::new();
    let Sound { info, capabilities, launch } = sound(name, &mut data, &[]);
    let (id, id_length) = data.text("use-1");
    let (output, output_length) = data.text(word);
    // The case `tool-result`; id, output, is-error, exit-code: none, extra: none.
    let mut result = [0_u32; EVENT_WORDS];
    result[0] = 7;
    result[2..6].copy_from_slice(&[id, id_length, output, output_length]);
    let step = step(&mut data, &[result, result].concat());
    let at = |address: u32| format!("i32.const {address}");
    let read = on("call $marked", &at(step));
    let functions = [
        ("describe", at(info)),
        ("detect", at(capabilities)),
        ("prepare", at(launch)),
        ("[constructor]transcript", NEW.to_owned()),
        ("[method]transcript.read", read),
    ];
    let functions: Vec<(&str, &str)> = functions.iter().map(|(name, body)| (*name, body.as_str())).collect();
    guest_that_knows(word, name, &data, OK, &functions).provider()
}
