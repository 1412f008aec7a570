//! What the tests of provider plugins share: captured runs of a CLI, their replay against an
//! approved reading, random lines, and requests with what became of them. A failure panics, as in every test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod captures;
pub mod golden;
pub mod launches;
pub mod probes;
pub mod soup;
