//! An independent measure of the redactor: secrets of every kind in many contexts, and output without secrets.
//!
//! There are two disjoint sets of contexts. Rules may be tuned on one of them. Authors of rules must not look at the
//! other one, so that its figures show the result for new texts. No value was ever issued by anyone.

mod contexts;
mod encode;
mod families;
mod fill;
mod innocent;
mod keys;
mod random;
mod wrap;

use families::{FAMILIES, Family, Kind};
use fill::{Pair, fill};
use random::Random;

/// A text, and the parts of it that must be redacted.
#[derive(Debug, Clone)]
pub struct Case {
    /// The usual name of the kind of secret; `innocent` for a text without one.
    pub rule: &'static str,
    pub text: String,
    /// Empty for a text without a secret.
    pub secrets: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Authors of rules may read its misses.
    Tuning,
    /// Authors of rules must not read its misses.
    HeldOut,
}

/// Texts with secrets: for each row of the table of families, `each` contexts of the set, in an order from the seed.
pub fn secrets(set: Set, seed: u64, each: usize) -> Vec<Case> {
    let mut r = Random::new(seed);
    let mut cases = Vec::new();
    for family in FAMILIES {
        if family.rule == "private-key" {
            for _ in 0..each.div_ceil(6) {
                cases.extend(keys::cases(&mut r, set));
            }
            continue;
        }
        for template in places(&mut r, set, family).into_iter().take(each) {
            let case = case(&mut r, family, template);
            cases.push(wrap::wrap(&mut r, set, case));
        }
    }
    cases
}

/// Texts without a secret: each template of the set, filled and wrapped `each` times.
pub fn innocent(set: Set, seed: u64, each: usize) -> Vec<Case> {
    let mut r = Random::new(seed);
    let nothing = Pair { value: "", name: "none" };
    let mut cases = Vec::new();
    for template in innocent::templates(set) {
        for _ in 0..each {
            let text = fill(&mut r, template, nothing).0;
            let case = Case { rule: "innocent", text, secrets: Vec::new() };
            cases.push(wrap::wrap(&mut r, set, case));
        }
    }
    cases
}

/// The contexts of a family and the general ones, mixed so that each kind comes early.
fn places(r: &mut Random, set: Set, family: &Family) -> Vec<&'static str> {
    let mut own = contexts::own(set, family.rule).to_vec();
    let mut shared = Vec::new();
    if family.kind != Kind::Placed {
        shared.extend_from_slice(contexts::named(set));
    }
    if family.kind == Kind::Plain {
        shared.extend_from_slice(contexts::bare(set));
    }
    shuffle(r, &mut own);
    shuffle(r, &mut shared);
    let mut mixed = Vec::new();
    while let (Some(first), Some(second)) = (own.last(), shared.last()) {
        mixed.extend([*first, *second]);
        own.pop();
        shared.pop();
    }
    mixed.extend(own);
    mixed.extend(shared);
    mixed
}

fn shuffle<T>(r: &mut Random, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, r.below(last + 1));
    }
}

fn case(r: &mut Random, family: &Family, template: &str) -> Case {
    let value = (family.value)(r);
    let name = r.pick(family.names);
    let (text, mut secrets) = fill(r, template, Pair { value: &value, name });
    match family.rule {
        "gcp-service-account" => {
            secrets.retain(|secret| *secret != value);
            secrets.extend(keys::body(&value.replace("\\n", "\n")));
        }
        // The whole address is a credential, and so is its random part.
        "slack-webhook-url" | "discord-webhook-url" if secrets.contains(&value) => {
            secrets.push(value.rsplit('/').next().unwrap_or_default().to_owned());
        }
        _ => {}
    }
    Case { rule: family.rule, text, secrets }
}

/// Contexts that are in both sets; there must be none.
pub fn places_in_both() -> Vec<&'static str> {
    let all = |set| {
        let own = FAMILIES.iter().flat_map(move |family| contexts::own(set, family.rule).iter());
        let shared = contexts::named(set).iter().chain(contexts::bare(set));
        own.chain(shared).chain(innocent::templates(set)).copied().collect::<std::collections::BTreeSet<_>>()
    };
    all(Set::Tuning).intersection(&all(Set::HeldOut)).copied().collect()
}
