//! The places in which secrets stand, in two sets that share none.

mod held_out;
mod tuning;

use super::Set;

/// Places with a name beside the value.
pub fn named(set: Set) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::NAMED,
        Set::HeldOut => held_out::NAMED,
    }
}

/// Places without a name that tells.
pub fn bare(set: Set) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::BARE,
        Set::HeldOut => held_out::BARE,
    }
}

/// Places in which only the family's values stand.
pub fn own(set: Set, rule: &str) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::own(rule),
        Set::HeldOut => held_out::own(rule),
    }
}
