//! The time, and points of failure: what tests of a whole host need to control.
//!
//! The host takes the time from [`clock`] alone and passes named points of its work through [`failpoint`]. In builds with
//! debug assertions a test can set the clock of one host, and let it die at one of the points, as `kill -9` would. A release
//! build has neither: the clock is the machine's, and the points are empty functions.

pub mod clock;
pub mod failpoint;
