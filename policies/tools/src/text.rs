//! Text in which a part is not known.
//!
//! The value of a shell word is a string in which one character stands for each part that the shell decides when it runs the
//! command. Characters of the input that look like one of them become [`DYNAMIC`].

/// Any text without `/`: an unquoted `*` of the shell.
pub(crate) const STAR: char = '\u{f8f0}';
/// One character except `/`: an unquoted `?` or `[…]` of the shell.
pub(crate) const ONE: char = '\u{f8f1}';
/// Any text: the value of a variable, the output of a command.
pub(crate) const DYNAMIC: char = '\u{f8f2}';

/// The longest part of a text that is shown in a message.
const MAX_SHOWN: usize = 80;

/// Replaces characters of the input that have a meaning here.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if matches!(c, STAR | ONE | DYNAMIC | '\0') { DYNAMIC } else { c }).collect()
}

/// Whether a part of the text is not known.
pub(crate) fn is_open(text: &str) -> bool {
    text.contains([STAR, ONE, DYNAMIC])
}

/// The text for a message: short, without control characters, unknown parts as `*`, `?` and `…`.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == MAX_SHOWN {
            shown.push('…');
            break;
        }
        shown.push(match c {
            STAR => '*',
            ONE => '?',
            DYNAMIC => '…',
            c if c.is_control() => '\u{fffd}',
            c => c,
        });
    }
    shown
}
