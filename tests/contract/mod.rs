//! What the contract suite is made of: the document that a host gives of itself, the ways to reach the host, and a walk
//! through everything that the document promises.

#![allow(unreachable_pub, clippy::panic, clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

pub mod channel;
pub mod document;
pub mod walk;
