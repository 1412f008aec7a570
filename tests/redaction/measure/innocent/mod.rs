//! Output of tools and agents without secrets, in two disjoint sets.

mod held_out;
mod tuning;

use super::Set;

pub fn templates(set: Set) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::TEMPLATES,
        Set::HeldOut => held_out::TEMPLATES,
    }
}
