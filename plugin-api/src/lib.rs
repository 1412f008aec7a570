//! Guest SDK for Ostler plugins.
