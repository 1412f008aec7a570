//! Run ids as people write them: whole, or enough of their beginning or end.

use crate::api::client::Client;
use crate::api::types::ListRunsParams;
use crate::model::{ApiError, ErrorKind, RunId, RunSummary};

use super::clean;
use super::format;

/// Fewer digits would name another run tomorrow.
const MIN_DIGITS: usize = 4;
/// Runs that are looked through, newest first.
const MAX_RUNS: u64 = 50_000;
/// Runs in one page.
const PAGE: u32 = 1000;

/// The run that `text` names.
pub(super) async fn resolve(client: &Client, text: &str) -> Result<RunId, ApiError> {
    let wanted = match parse(text)? {
        Wanted::Whole(run_id) => return Ok(run_id),
        Wanted::Part(part) => part,
    };
    let mut found: Vec<RunSummary> = Vec::new();
    let mut offset = 0;
    loop {
        let params = ListRunsParams { limit: Some(PAGE), offset: Some(offset), ..ListRunsParams::default() };
        let page = client.list_runs(&params).await?;
        offset += page.items.len() as u64;
        let ended = page.items.is_empty() || offset >= page.total.min(MAX_RUNS);
        found.extend(page.items.into_iter().filter(|run| matches(run.run_id, &wanted)));
        if ended {
            return pick(text, &found);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole(RunId),
    /// Hexadecimal digits, lower case, without hyphens.
    Part(String),
}

fn parse(text: &str) -> Result<Wanted, ApiError> {
    let digits: String = text.chars().filter(|character| *character != '-').collect::<String>().to_lowercase();
    let hexadecimal = digits.chars().all(|character| character.is_ascii_hexdigit());
    if hexadecimal && digits.len() == 32 {
        return text.parse().or_else(|_| digits.parse()).map(Wanted::Whole).map_err(|_| not_an_id(text));
    }
    if !hexadecimal || digits.len() > 32 {
        return Err(not_an_id(text));
    }
    if digits.len() < MIN_DIGITS {
        let message =
            format!("the run id {:?} is too short: at least {MIN_DIGITS} digits are needed", clean::line(text));
        return Err(ApiError::new(ErrorKind::InvalidParams, message).hint("`ostler runs` lists the runs"));
    }
    Ok(Wanted::Part(digits))
}

fn not_an_id(text: &str) -> ApiError {
    ApiError::new(ErrorKind::InvalidParams, format!("{:?} is no run id", clean::line(text)))
        .hint("`ostler runs` lists the runs; the beginning or the end of an id is enough")
}

fn matches(run_id: RunId, digits: &str) -> bool {
    let id = run_id.as_uuid().simple().to_string();
    id.starts_with(digits) || id.ends_with(digits)
}

fn pick(text: &str, found: &[RunSummary]) -> Result<RunId, ApiError> {
    match found {
        [] => Err(ApiError::not_found("run", clean::line(text)).hint("`ostler runs` lists the runs")),
        [one] => Ok(one.run_id),
        several => {
            let mut lines: Vec<String> = several
                .iter()
                .take(10)
                .map(|run| format!("{}  {}  {}", run.run_id, format::local(run.created_at), clean::line(&run.title)))
                .collect();
            if several.len() > lines.len() {
                lines.push(format!("and {} more", several.len() - lines.len()));
            }
            let message = format!("{text} is ambiguous, it fits {} runs:\n{}", several.len(), lines.join("\n"));
            Err(ApiError::new(ErrorKind::InvalidParams, message).hint("give more digits"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const ID: &str = "01999999-8888-7777-8666-123456789abc";

    #[test]
    fn whole_ids_and_parts() {
        let whole = Wanted::Whole(ID.parse().unwrap());
        assert_eq!(parse(ID).unwrap(), whole);
        assert_eq!(parse(&ID.replace('-', "").to_uppercase()).unwrap(), whole);
        assert_eq!(parse("0199-9999").unwrap(), Wanted::Part("01999999".to_owned()));
        for wrong in ["", "abc", "xyzw", "0199 9999", &format!("{ID}0"), "--", "\u{1b}[2J"] {
            assert_eq!(parse(wrong).unwrap_err().kind, ErrorKind::InvalidParams, "{wrong:?}");
        }
    }

    #[test]
    fn a_part_fits_at_either_end() {
        let id: RunId = ID.parse().unwrap();
        assert!(matches(id, "019999998888"));
        assert!(matches(id, "56789abc"));
        assert!(!matches(id, "7777"));
    }
}
