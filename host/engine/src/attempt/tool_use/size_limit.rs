//! Limits the size of a tool use for the policies.

use super::MAX_PATH;
use ostler_plugin_host::types::ToolCall;

/// Maximum size of one use for the policies, in bytes: of all texts together, of the names of the use, and of its folder.
/// Each entry of a list counts with a few bytes of its own.
pub(super) const MAX_SHOWN: usize = 1 << 20;
pub(super) const MAX_WORD: usize = 2 * MAX_PATH;
pub(super) const ENTRY: usize = 64;

/// Maximum number of fields that are named as cut.
pub(super) const MAX_CUT: usize = 100;

/// A use within the maximum size. Names have precedence, and then short texts. `extra.cut` names the fields that were cut.
pub(super) fn shorten(mut call: ToolCall) -> ToolCall {
    let (mut room, mut cut) = (MAX_SHOWN, Vec::new());
    let words = [("/id", &mut call.id), ("/kind", &mut call.kind), ("/name", &mut call.name)];
    let optional = [("/parent", &mut call.parent), ("/cwd", &mut call.cwd)];
    let optional = optional.into_iter().filter_map(|(pointer, word)| Some((pointer, word.as_mut()?)));
    let mcp = call.mcp.iter_mut().flat_map(|mcp| [("/mcp/server", &mut mcp.server), ("/mcp/tool", &mut mcp.tool)]);
    for (pointer, word) in words.into_iter().chain(optional).chain(mcp) {
        cut_text(word, MAX_WORD, pointer, &mut cut);
        room = room.saturating_sub(word.len());
    }
    // A part of a path or an address would be another one.
    let fitting = |lengths: &mut dyn Iterator<Item = usize>, room: &mut usize| {
        let fits = |length: &usize| room.checked_sub(length + ENTRY).map(|rest| *room = rest).is_some();
        lengths.take_while(fits).count()
    };
    let count = fitting(&mut call.files.iter().map(|file| file.path.len()), &mut room);
    truncate(&mut call.files, count, "/files", &mut cut);
    let count = fitting(&mut call.urls.iter().map(String::len), &mut room);
    truncate(&mut call.urls, count, "/urls", &mut cut);
    let count = room / ENTRY;
    truncate(&mut call.commands, count, "/commands", &mut cut);
    room -= call.commands.len() * ENTRY;
    for (index, command) in call.commands.iter_mut().enumerate() {
        cut_text(command, room, &format!("/commands/{index}"), &mut cut);
        room -= command.len();
    }
    for (index, file) in call.files.iter_mut().enumerate() {
        if let Some(change) = &mut file.change {
            cut_text(change, room, &format!("/files/{index}/change"), &mut cut);
            room -= change.len();
        }
    }
    if call.input.len() > room {
        // As a JSON string it is at most twice as long: it is JSON, so that control characters are escaped already.
        cut_text(&mut call.input, room / 2, "/input", &mut cut);
        call.input = serde_json::Value::from(call.input).to_string();
        room = 0;
    }
    if call.extra.as_ref().is_some_and(|extra| extra.len() > room) {
        cut.push("/extra".to_owned());
        call.extra = None;
    }
    if !cut.is_empty() {
        mark(&mut call.extra, cut);
    }
    call
}

fn cut_text(text: &mut String, most: usize, pointer: &str, cut: &mut Vec<String>) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        cut.push(pointer.to_owned());
    }
}

fn truncate<T>(list: &mut Vec<T>, most: usize, pointer: &str, cut: &mut Vec<String>) {
    if list.len() > most {
        list.truncate(most);
        cut.push(pointer.to_owned());
    }
}

/// Names the cut fields in `extra`, up to the maximum number.
fn mark(extra: &mut Option<String>, mut cut: Vec<String>) {
    cut.truncate(MAX_CUT);
    let known = extra.as_ref().and_then(|extra| serde_json::from_str(extra).ok());
    let mut fields: serde_json::Map<String, serde_json::Value> = known.unwrap_or_default();
    if let Some(before) = fields.get("cut").and_then(serde_json::Value::as_array) {
        cut.extend(before.iter().filter_map(|pointer| pointer.as_str().map(str::to_owned)));
    }
    fields.insert("cut".to_owned(), cut.into());
    *extra = Some(serde_json::Value::from(fields).to_string());
}
