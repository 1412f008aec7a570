//! Parsers for numbers in options, with messages that say what is expected.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A parser of a whole number in a range.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Reads a whole number. The host checks its range.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// Reads an amount of money.
pub(super) fn amount(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected an amount in US dollars: 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_number_out_of_range_and_names_the_range() {
        let parse = whole(1_u32..=1000);
        assert_eq!(parse("20"), Ok(20));
        for text in ["0", "1001", "x", "", "-1", "2.5", "99999999999999999999"] {
            assert_eq!(parse(text), Err("expected a whole number from 1 to 1000".to_owned()), "{text}");
        }
        assert_eq!(integer("-3"), Ok(-3));
        assert!(integer("x").is_err() && amount("x").is_err());
    }
}
