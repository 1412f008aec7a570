//! The Anthropic Messages protocol.

use super::{
    Request, Response, Seen, Shared, body, count_of_type, credential, new_id,
    script::{LOOK_UP, Reply, Tool, Turn, Verdict, without_context},
};
use serde_json::{Value, json};
use std::{io, thread};

pub(super) fn answer(shared: &Shared, request: &Request, response: &mut Response) -> io::Result<()> {
    let Some(body) = body(request, response)? else { return Ok(()) };
    let turn = read(&body);
    shared.record(Seen {
        protocol: "messages",
        model: turn.model.clone(),
        prompt: turn.prompts.last().cloned().unwrap_or_default(),
        turns: turn.prompts.len(),
        credential: credential(request),
        system: turn.system.clone(),
        tools: turn.tools.iter().map(|tool| &tool.name).chain(&turn.deferred).cloned().collect(),
        images: count_of_type(&body["messages"], "image"),
    });
    match shared.script.decide(&turn) {
        Verdict::Refuse(status, seconds) => {
            let kind = match status {
                400 => "invalid_request_error",
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                _ => "api_error",
            };
            let message = format!("the script says {status}");
            response.json_after(
                status,
                seconds,
                &json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": new_id("req") }),
            )
        }
        Verdict::Reply(reply) if turn.stream => stream(&turn, &reply, response),
        Verdict::Reply(reply) => response.json(200, &whole(&turn, &reply)),
    }
}

fn read(body: &Value) -> Turn {
    let mut turn = Turn {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: text_of(&body["system"]),
        stream: body["stream"] == true,
        ..Turn::default()
    };
    for message in body["messages"].as_array().into_iter().flatten() {
        let content = &message["content"];
        match message["role"].as_str() {
            Some("user") => {}
            Some("system") => {
                turn.system.push('\n');
                turn.system.push_str(&text_of(content));
                continue;
            }
            _ => {
                let uses = content.as_array().into_iter().flatten().filter(|part| part["type"] == "tool_use");
                turn.called.extend(uses.filter_map(|part| part["name"].as_str().map(str::to_owned)));
                continue;
            }
        }
        let results: Vec<String> = content
            .as_array()
            .into_iter()
            .flatten()
            .filter(|part| part["type"] == "tool_result")
            .map(|part| text_of(&part["content"]))
            .collect();
        let text = without_context(&text_of(content));
        turn.results.extend(results);
        // A new prompt can come with the results of the turn before, and claude itself reports that it looked up a
        // tool.
        if !text.is_empty() && text != "Tool loaded." {
            turn.prompts.push(text);
            turn.results.clear();
            turn.called.clear();
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        if let Some(name) = tool["name"].as_str() {
            turn.tools.push(Tool { name: name.to_owned(), input: tool["input_schema"].clone(), namespace: None });
        }
    }
    // Without the tool that looks them up, these names belong to an earlier turn.
    if turn.tools.iter().any(|tool| tool.name == LOOK_UP) {
        turn.deferred = deferred(&turn.system);
    }
    turn
}

/// Names of tools that the CLI mentions, but offers only after the model has looked them up.
fn deferred(system: &str) -> Vec<String> {
    let after = |text: &'static str| system.split(text).nth(1);
    let Some(list) = after("deferred tools are now available") else { return Vec::new() };
    let name = |line: &&str| line.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    list.lines().skip(1).take_while(|line| !line.is_empty()).filter(name).map(str::to_owned).collect()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

fn blocks(reply: &Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(thinking) = &reply.thinking {
        blocks.push(json!({ "type": "thinking", "thinking": thinking, "signature": "c2NyaXB0ZWQ=" }));
    }
    blocks.push(match &reply.call {
        Some(call) => json!({ "type": "tool_use", "id": new_id("toolu"), "name": call.name, "input": call.input }),
        None => json!({ "type": "text", "text": reply.text() }),
    });
    blocks
}

fn usage(reply: &Reply) -> Value {
    let (input, output) = reply.tokens();
    json!({
        "input_tokens": input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    })
}

fn stop_reason(reply: &Reply) -> &'static str {
    if reply.call.is_some() { "tool_use" } else { "end_turn" }
}

fn whole(turn: &Turn, reply: &Reply) -> Value {
    json!({
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": blocks(reply),
        "stop_reason": stop_reason(reply),
        "stop_sequence": null,
        "usage": usage(reply),
    })
}

fn stream(turn: &Turn, reply: &Reply, response: &mut Response) -> io::Result<()> {
    response.begin_events()?;
    let mut message = whole(turn, reply);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = json!(1);
    response.event(&json!({ "type": "message_start", "message": message }))?;
    for (index, block) in blocks(reply).iter().enumerate() {
        let mut empty = block.clone();
        match block["type"].as_str() {
            Some("text") => empty["text"] = json!(""),
            Some("thinking") => {
                empty["thinking"] = json!("");
                empty["signature"] = json!("");
            }
            _ => empty["input"] = json!({}),
        }
        response.event(&json!({ "type": "content_block_start", "index": index, "content_block": empty }))?;
        let delta = |delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        match block["type"].as_str() {
            Some("text") => {
                for piece in &reply.pieces {
                    response.event(&delta(json!({ "type": "text_delta", "text": piece })))?;
                    if reply.cut {
                        return Ok(());
                    }
                    thread::sleep(reply.pause);
                }
            }
            Some("thinking") => {
                response.event(&delta(json!({ "type": "thinking_delta", "thinking": block["thinking"] })))?;
                response.event(&delta(json!({ "type": "signature_delta", "signature": block["signature"] })))?;
            }
            _ => {
                let input = block["input"].to_string();
                response.event(&delta(json!({ "type": "input_json_delta", "partial_json": input })))?;
            }
        }
        response.event(&json!({ "type": "content_block_stop", "index": index }))?;
    }
    response.event(&json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason(reply), "stop_sequence": null },
        "usage": usage(reply),
    }))?;
    response.event(&json!({ "type": "message_stop" }))
}
