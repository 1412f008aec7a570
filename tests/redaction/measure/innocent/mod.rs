//! What tools and agents print when no secret is there, in two sets that share none.

mod held_out;
mod tuning;

use super::Set;

pub fn templates(set: Set) -> &'static [&'static str] {
    match set {
        Set::Tuning => tuning::TEMPLATES,
        Set::HeldOut => held_out::TEMPLATES,
    }
}
