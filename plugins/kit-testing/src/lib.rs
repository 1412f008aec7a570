//! Helpers for tests of provider plugins: captured runs of a CLI, comparison with a reviewed file,
//! random lines, and requests with their launches. Like tests, they panic on failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod captures;
pub mod golden;
pub mod launches;
pub mod probes;
pub mod random_lines;
