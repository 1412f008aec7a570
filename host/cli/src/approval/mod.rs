//! Approvals at a terminal: what an agent wants to do, and the question whether it may.
//!
//! [`render`] formats an approval. [`Prompt`](prompt::Prompt) is the dialog about one approval, a state machine of keys. [`Desk`] keeps the
//! open approvals of a run, asks about one after the other, and sends the answers to the host.
//! [`InlineApprovals`] does that while a run is followed.

mod answers;
mod desk;
mod edit;
mod form;
mod inline;
mod prompt;
mod render;

#[cfg(test)]
pub(super) use render::tests;

pub(super) use answers::{Given, of_arguments};
pub(super) use desk::{Change, Desk, DeskRequest};
pub(super) use inline::{Handled, InlineApprovals};
pub(super) use render::{Look, details};
