//! A conversation: many prompts, questions in between, and interrupts, over lines of JSON in both directions.
//!
//! Standard output has the lines of [`protocol`](super::protocol), and these:
//!
//! | `type` | fields |
//! |---|---|
//! | `answer` | `request`: the answer to `hello` and `interrupt` |
//! | `ask` | `ask`, `phase` (`use`: shown before it happens; `ask`: a decision is needed), `kind`, `tool`, `editable`, `reason`, and the members of a tool use |
//! | `withdraw` | `ask` |
//! | `request` | `request`, `what`: something that no host knows |
//! | `state` | `state` (`running`, `idle`), `background` |
//! | `turn` | as `result`: the end of a turn, not of the conversation |

mod acts;
mod link;
mod words;

pub(super) use link::{Handshake, Link};
pub(super) use words::{TalkAct, WORDS, read};

use super::{
    args::Options,
    perform::{ActionContext, Stop},
    script,
};
use link::Next;
use std::{
    io::{self, BufReader},
    sync::Arc,
};

/// Talks until the host closes its side and nothing is left to do. Returns the exit code: that of the last turn, as far as it
/// failed by itself.
pub(super) fn converse(options: &Options) -> Result<u8, Stop> {
    let mut context = ActionContext::open(options)?;
    let link =
        Link::start(context.out.clone(), context.running.clone(), options.handshake, BufReader::new(io::stdin()));
    if !link.greeted()? {
        return Ok(0);
    }
    context.link = Some(Arc::clone(&link));
    context.opening()?;
    let (mut code, mut number) = (0, 0_u64);
    loop {
        let (prompt, acts) = match link.next()? {
            Next::Leave => return Ok(code),
            Next::Ended(text) => {
                let said = format!("the background task has ended: {text}");
                (said.clone(), Ok(vec![script::Act::Say(said)]))
            }
            Next::Prompt(text) => {
                let acts = script::read_all(&text);
                (text, acts)
            }
        };
        number += 1;
        link.begin()?;
        if number > 1 {
            context.next_turn()?;
        }
        let result = context.turn(number, &prompt, acts)?;
        link.end()?;
        context.close(&prompt, &result)?;
        if result.leaves() {
            return Ok(result.code());
        }
        code = result.code();
        link.report()?;
    }
}
