//! The user's terminal as an input device: keys, a line editor, and the lines at the bottom of the screen.
//!
//! [`Keyboard`] reads keys from the controlling terminal, which also works if standard input is a pipe. [`LineEditor`]
//! edits a message. [`Footer`] draws lines below the output, and [`Screen`] writes output above them. All but the keyboard
//! are pure: they return what to write.

mod footer;
mod keyboard;
mod keys;
mod line_editor;
mod screen;
mod wrap;

pub(super) use footer::{Footer, FooterText};
pub(super) use keyboard::{Input, Keyboard, RawInput, TerminalSize};
pub(super) use keys::Key;
pub(super) use line_editor::{LineEditor, LineOutcome};
pub(super) use screen::Screen;
pub(super) use wrap::wrap;
