//! The contexts of secrets, in two disjoint sets.

mod held_out;
mod tuning;

use super::Set;

/// Contexts with a name next to the value.
pub fn named(set: Set) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::NAMED,
        Set::HeldOut => held_out::NAMED,
    }
}

/// Contexts without a name of the secret.
pub fn bare(set: Set) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::BARE,
        Set::HeldOut => held_out::BARE,
    }
}

/// Contexts that only one family uses.
pub fn own(set: Set, rule: &str) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::own(rule),
        Set::HeldOut => held_out::own(rule),
    }
}
