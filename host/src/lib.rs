//! Ostler runs coding-agent CLIs as queued, supervised, redacted and audited jobs.
pub mod model;
