//! Suggestions for misspelled names.

/// Maximum length of a name that is compared, in characters.
const COMPARED: usize = 64;

/// The known name that is most similar to an unknown one, if one is similar enough. Ignores case, dashes, underscores
/// and spaces.
pub fn nearest<'n>(unknown: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wanted = compared(unknown);
    if wanted.is_empty() {
        return None;
    }
    let near = known.into_iter().filter_map(|name| Some((distance(&wanted, &compared(name))?, name)));
    // Swapped letters are more likely than a missing one.
    near.min_by_key(|(distance, name)| (*distance, name.len().abs_diff(unknown.len()))).map(|(_, name)| name)
}

fn compared(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).take(COMPARED).collect()
}

/// Number of typing errors between two names. `None` if there are too many.
fn distance(wanted: &str, candidate: &str) -> Option<usize> {
    let of = |candidate: &str| {
        let distance = strsim::damerau_levenshtein(wanted, candidate);
        (distance, distance <= (candidate.len().max(wanted.len()) / 3).max(1))
    };
    let (distance, near) = of(candidate);
    // A name without its unit, or with one too many: `grace` for `grace_seconds`.
    let begins = |long: &str, short: &str| short.len() >= 3 && long.starts_with(short);
    // A name without its section: `global` for `scheduler.global`.
    let ends = candidate.rsplit_once('.').is_some_and(|(_, last)| of(last).1);
    (near || ends || begins(candidate, wanted) || begins(wanted, candidate)).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn name_with_typing_errors_finds_the_known_one() {
        let known = ["run", "runs", "capabilities", "grace_seconds", "scheduler.global", "perProvider"];
        for (unknown, expected) in [
            ("rnu", Some("run")),
            ("rusn", Some("runs")),
            ("cahpabilities", Some("capabilities")),
            ("grace", Some("grace_seconds")),
            ("per_provider", Some("perProvider")),
            ("global", Some("scheduler.global")),
            ("globl", Some("scheduler.global")),
            ("scheduler.globl", Some("scheduler.global")),
            ("xyzzy", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(nearest(unknown, known), expected, "{unknown:?}");
        }
    }
}
