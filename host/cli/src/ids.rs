//! Resolves the ids that people type: complete ids, their first or last digits, or `last`, `@` and `@2` for the newest.

use jiff::Timestamp;
use uuid::Uuid;

use ostler_client::Client;
use ostler_protocol::methods::{ListConversationsParams, ListRunsParams};
use ostler_protocol::{ApiError, Approval, ConversationId, ErrorKind, RunId, RunMode};

use super::clean;
use super::format;

/// Minimum number of digits of a partial id. Fewer would soon be ambiguous.
const MIN_DIGITS: usize = 4;
/// Maximum number of items that are searched, newest first.
const MAX_LOOKED_AT: u64 = 50_000;
/// Items per page.
const PAGE: u32 = 1000;

/// The runs that `texts` name, without duplicates. Fails if any text is wrong, before the command does anything.
pub(super) async fn runs(client: &Client, texts: &[String]) -> Result<Vec<RunId>, ApiError> {
    let mut found = Vec::new();
    for text in texts {
        let id = run(client, text).await?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The run that `text` names.
pub(super) async fn run(client: &Client, text: &str) -> Result<RunId, ApiError> {
    let id = resolve(&RUN, text, async |offset, limit| {
        let params = ListRunsParams { limit: Some(limit), offset: Some(offset), ..ListRunsParams::default() };
        let page = client.list_runs(&params).await?;
        let items = page.items.into_iter();
        let items = items.map(|run| Named { id: *run.run_id.as_uuid(), at: run.created_at, title: run.title });
        Ok((items.collect(), page.total))
    });
    id.await.map(RunId::from)
}

/// The run of a session that `text` names. `@` is the newest session.
pub(super) async fn session(client: &Client, text: &str) -> Result<RunId, ApiError> {
    let Wanted::Newest(number) = SESSION.parse(text)? else { return run(client, text).await };
    let (mut seen, mut offset) = (0, 0);
    loop {
        let params = ListRunsParams { limit: Some(PAGE), offset: Some(offset), ..ListRunsParams::default() };
        let page = client.list_runs(&params).await?;
        offset += page.items.len() as u64;
        let ended = page.items.is_empty() || offset >= page.total.min(MAX_LOOKED_AT);
        for run in page.items.into_iter().filter(|run| run.mode == RunMode::Interactive) {
            seen += 1;
            if seen == number {
                return Ok(run.run_id);
            }
        }
        if ended {
            return Err(SESSION.too_few(number, seen));
        }
    }
}

/// The open approval that `text` names.
pub(super) async fn approval(client: &Client, text: &str) -> Result<Approval, ApiError> {
    let open = client.list_approvals(None).await?;
    let fits = |digits: &str| {
        let named = open.iter().map(|approval| Named {
            id: *approval.id.as_uuid(),
            at: approval.opened_at,
            title: approval.title.clone(),
        });
        named.filter(|named| matches(named.id, digits)).collect::<Vec<_>>()
    };
    let id = match APPROVAL.parse(text)? {
        Wanted::Whole(id) => id,
        Wanted::Part(digits) => APPROVAL.pick(text, &fits(&digits))?,
        // The newest one may be another than the user has in mind.
        Wanted::Newest(_) => return Err(APPROVAL.not_an_id(text)),
    };
    open.into_iter().find(|approval| *approval.id.as_uuid() == id).ok_or_else(|| {
        ApiError::new(ErrorKind::NotFound, format!("there is no open approval {}", clean::line(text)))
            .hint(format!("it may have been decided; {}", APPROVAL.hint()))
    })
}

/// The conversation that `text` names, archived or not.
pub(super) async fn conversation(client: &Client, text: &str) -> Result<ConversationId, ApiError> {
    let id = resolve(&CONVERSATION, text, async |offset, limit| {
        let params = ListConversationsParams {
            include_archived: Some(true),
            limit: Some(limit),
            offset: Some(offset),
            ..ListConversationsParams::default()
        };
        let page = client.list_conversations(&params).await?;
        let items = page.items.into_iter().map(|found| Named {
            id: *found.conversation.conversation_id.as_uuid(),
            at: found.conversation.created_at,
            title: found.conversation.title.unwrap_or_default(),
        });
        Ok((items.collect(), page.total))
    });
    id.await.map(ConversationId::from)
}

/// What an id identifies.
struct Kind {
    name: &'static str,
    /// The command that lists these items.
    list: &'static str,
    /// Whether `@` is the newest one.
    newest: bool,
}

const RUN: Kind = Kind { name: "run", list: "ostler runs", newest: true };
const SESSION: Kind = Kind { name: "session", list: "ostler session list --all", newest: true };
const APPROVAL: Kind = Kind { name: "approval", list: "ostler approvals", newest: false };
const CONVERSATION: Kind = Kind { name: "conversation", list: "ostler chat list", newest: true };

/// An item with an id.
#[derive(Debug)]
struct Named {
    id: Uuid,
    at: Timestamp,
    title: String,
}

/// Resolves a text to an id. Unless the text is a complete id, searches the pages that `page` returns with the total.
async fn resolve(
    kind: &Kind,
    text: &str,
    page: impl AsyncFn(u64, u32) -> Result<(Vec<Named>, u64), ApiError>,
) -> Result<Uuid, ApiError> {
    let wanted = match kind.parse(text)? {
        Wanted::Whole(id) => return Ok(id),
        Wanted::Newest(number) => {
            let (items, total) = page(number - 1, 1).await?;
            return items.first().map(|item| item.id).ok_or_else(|| kind.too_few(number, total));
        }
        Wanted::Part(part) => part,
    };
    let mut found: Vec<Named> = Vec::new();
    let mut offset = 0;
    loop {
        let (items, total) = page(offset, PAGE).await?;
        offset += items.len() as u64;
        let ended = items.is_empty() || offset >= total.min(MAX_LOOKED_AT);
        found.extend(items.into_iter().filter(|item| matches(item.id, &wanted)));
        if ended {
            return kind.pick(text, &found);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole(Uuid),
    /// Number of the item, counted from the newest, which is 1.
    Newest(u64),
    /// Hexadecimal digits, lower case, without hyphens.
    Part(String),
}

impl Kind {
    fn parse(&self, text: &str) -> Result<Wanted, ApiError> {
        if matches!(text, "last" | "@") {
            return Ok(Wanted::Newest(1));
        }
        if let Some(number) = text.strip_prefix('@') {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|number| digits && *number > 0);
            return number.map(Wanted::Newest).ok_or_else(|| self.not_an_id(text));
        }
        let digits: String = text.chars().filter(|character| *character != '-').collect::<String>().to_lowercase();
        let hexadecimal = digits.chars().all(|character| character.is_ascii_hexdigit());
        if hexadecimal && digits.len() == 32 {
            return text.parse().or_else(|_| digits.parse()).map(Wanted::Whole).map_err(|_| self.not_an_id(text));
        }
        if !hexadecimal || digits.len() > 32 {
            return Err(self.not_an_id(text));
        }
        if digits.len() < MIN_DIGITS {
            let (name, shown) = (self.name, clean::line(text));
            let message = format!("the {name} id {shown:?} is too short: at least {MIN_DIGITS} digits are needed");
            return Err(ApiError::new(ErrorKind::InvalidParams, message).hint(self.hint()));
        }
        Ok(Wanted::Part(digits))
    }

    fn not_an_id(&self, text: &str) -> ApiError {
        let newest = if self.newest { ", and `@` or `last` is the newest" } else { "" };
        ApiError::new(ErrorKind::InvalidParams, format!("{:?} is not a valid {} id", clean::line(text), self.name))
            .hint(format!("{}; the beginning or the end of an id is enough{newest}", self.hint()))
    }

    fn too_few(&self, number: u64, total: u64) -> ApiError {
        let name = self.name;
        let message = match total {
            0 => format!("there are no {name}s yet"),
            1 => format!("there is no {name} @{number}: there is only one"),
            _ => format!("there is no {name} @{number}: there are only {total}"),
        };
        ApiError::new(ErrorKind::NotFound, message).hint(self.hint())
    }

    fn hint(&self) -> String {
        format!("`{}` lists the {}s", self.list, self.name)
    }

    fn pick(&self, text: &str, found: &[Named]) -> Result<Uuid, ApiError> {
        match found {
            [] => Err(ApiError::not_found(self.name, clean::line(text)).hint(self.hint())),
            [one] => Ok(one.id),
            several => {
                let line =
                    |item: &Named| format!("{}  {}  {}", item.id, format::local(item.at), clean::line(&item.title));
                let mut lines: Vec<String> = several.iter().take(10).map(line).collect();
                if several.len() > lines.len() {
                    lines.push(format!("and {} more", several.len() - lines.len()));
                }
                let (name, count) = (self.name, several.len());
                let message = format!("{text} is ambiguous, it fits {count} {name}s:\n{}", lines.join("\n"));
                Err(ApiError::new(ErrorKind::InvalidParams, message).hint("give more digits"))
            }
        }
    }
}

fn matches(id: Uuid, digits: &str) -> bool {
    let id = id.simple().to_string();
    id.starts_with(digits) || id.ends_with(digits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const ID: &str = "01999999-8888-7777-8666-123456789abc";

    #[test]
    fn parses_whole_ids_and_parts() {
        let whole = Wanted::Whole(ID.parse().unwrap());
        assert_eq!(RUN.parse(ID).unwrap(), whole);
        assert_eq!(RUN.parse(&ID.replace('-', "").to_uppercase()).unwrap(), whole);
        assert_eq!(RUN.parse("0199-9999").unwrap(), Wanted::Part("01999999".to_owned()));
        for (text, number) in [("last", 1), ("@", 1), ("@1", 1), ("@12", 12)] {
            assert_eq!(RUN.parse(text).unwrap(), Wanted::Newest(number), "{text}");
        }
        let wrong = ["", "abc", "xyzw", "0199 9999", &format!("{ID}0"), "--", "\u{1b}[2J", "@0", "@+1", "@x", "LAST"];
        for wrong in wrong {
            assert_eq!(CONVERSATION.parse(wrong).unwrap_err().kind, ErrorKind::InvalidParams, "{wrong:?}");
        }
    }

    #[test]
    fn part_matches_start_or_end() {
        let id: Uuid = ID.parse().unwrap();
        assert!(matches(id, "019999998888"));
        assert!(matches(id, "56789abc"));
        assert!(!matches(id, "7777"));
    }

    #[test]
    fn picks_single_match_and_lists_several() {
        let named = |id: &str, title: &str| Named {
            id: id.parse().unwrap(),
            at: Timestamp::UNIX_EPOCH,
            title: title.to_owned(),
        };
        let (one, other) = (named(ID, "first"), named("01999999-8888-7777-8666-1234567893bc", "second"));
        assert_eq!(CONVERSATION.pick("0199", &[]).unwrap_err().message, "there is no conversation 0199");
        let error = CONVERSATION.pick("0199", &[one, other]).unwrap_err();
        assert!(error.message.contains("fits 2 conversations") && error.message.contains("second"), "{error:?}");
    }
}
