//! The OpenAI Responses protocol.

use super::{
    Request, Response, Seen, Shared, body, count_of_type, credential, new_id,
    script::{Reply, Tool, Turn, Verdict, without_context},
};
use serde_json::{Value, json};
use std::{io, thread};

pub(super) fn answer(shared: &Shared, request: &Request, response: &mut Response) -> io::Result<()> {
    let Some(body) = body(request, response)? else { return Ok(()) };
    let turn = read(&body);
    shared.record(Seen {
        protocol: "responses",
        model: turn.model.clone(),
        prompt: turn.prompts.last().cloned().unwrap_or_default(),
        turns: turn.prompts.len(),
        credential: credential(request),
        system: turn.system.clone(),
        tools: turn.tools.iter().map(|tool| tool.name.clone()).collect(),
        images: count_of_type(&body["input"], "input_image"),
    });
    match shared.script.decide(&turn) {
        Verdict::Refuse(status, seconds) => {
            let code = match status {
                401 => "invalid_api_key",
                429 => "rate_limit_exceeded",
                _ => "scripted_failure",
            };
            let message = format!("the script says {status}");
            response.json_after(
                status,
                seconds,
                &json!({ "error": { "message": message, "type": code, "code": code, "param": null } }),
            )
        }
        Verdict::Reply(reply) if turn.stream => stream(&turn, &reply, response),
        Verdict::Reply(reply) => response.json(200, &whole(&new_id("resp"), &turn, &reply, items(&reply))),
    }
}

fn read(body: &Value) -> Turn {
    let mut turn = Turn {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: body["instructions"].as_str().unwrap_or_default().to_owned(),
        stream: body["stream"] == true,
        ..Turn::default()
    };
    if let Some(text) = body["input"].as_str() {
        turn.prompts.push(text.to_owned());
    }
    for item in body["input"].as_array().into_iter().flatten() {
        let kind = item["type"].as_str().unwrap_or("message");
        match (kind, item["role"].as_str()) {
            ("message", Some("system" | "developer")) => {
                turn.system.push('\n');
                turn.system.push_str(&text_of(&item["content"]));
            }
            ("message", Some("user")) => {
                let text = without_context(&text_of(&item["content"]));
                if !text.is_empty() && !text.starts_with("# AGENTS.md") {
                    turn.prompts.push(text);
                    turn.results.clear();
                }
            }
            (kind, _) if kind.ends_with("_call_output") => turn.results.push(text_of(&item["output"])),
            _ => {}
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        // A tool is listed alone, or as a member of a named group.
        let members = tool["tools"].as_array();
        let namespace = members.and(tool["name"].as_str());
        for tool in members.map_or_else(|| vec![tool], |members| members.iter().collect()) {
            // Tools of the model service have only a type.
            if let Some(name) = tool["name"].as_str().or(tool["type"].as_str()) {
                turn.tools.push(Tool {
                    name: name.to_owned(),
                    input: tool["parameters"].clone(),
                    namespace: namespace.map(str::to_owned),
                });
            }
        }
    }
    turn
}

/// The text of a string, of a list of typed parts, or of anything else as JSON.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The output items of a reply: reasoning, then a call or a message.
fn items(reply: &Reply) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(thinking) = &reply.thinking {
        items.push(json!({
            "type": "reasoning",
            "id": new_id("rs"),
            "summary": [{ "type": "summary_text", "text": thinking }],
        }));
    }
    items.push(match &reply.call {
        Some(call) => {
            let mut item = json!({
                "type": "function_call",
                "id": new_id("fc"),
                "call_id": new_id("call"),
                "name": call.name,
                "arguments": call.input.to_string(),
                "status": "completed",
            });
            if let Some(namespace) = &call.namespace {
                item["namespace"] = json!(namespace);
            }
            item
        }
        None => json!({
            "type": "message",
            "id": new_id("msg"),
            "role": "assistant",
            "status": "completed",
            "content": [{ "type": "output_text", "text": reply.text(), "annotations": [] }],
        }),
    });
    items
}

fn whole(id: &str, turn: &Turn, reply: &Reply, items: Vec<Value>) -> Value {
    let (input, output) = reply.tokens();
    json!({
        "id": id,
        "object": "response",
        "status": "completed",
        "model": turn.model,
        "output": items,
        "usage": {
            "input_tokens": input,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input + output,
        },
    })
}

fn stream(turn: &Turn, reply: &Reply, response: &mut Response) -> io::Result<()> {
    let id = new_id("resp");
    let items = items(reply);
    response.begin_events()?;
    response.event(&json!({
        "type": "response.created",
        "response": { "id": id, "object": "response", "status": "in_progress", "model": turn.model, "output": [] },
    }))?;
    for (index, item) in items.iter().enumerate() {
        let common = json!({ "item_id": item["id"], "output_index": index });
        let event = |kind: &str, fields: Value| {
            let mut event = json!({ "type": kind });
            for part in [&common, &fields] {
                for (name, value) in part.as_object().into_iter().flatten() {
                    event[name] = value.clone();
                }
            }
            event
        };
        response.event(&event("response.output_item.added", json!({ "item": opened(item) })))?;
        match item["type"].as_str() {
            Some("message") => {
                for piece in &reply.pieces {
                    response
                        .event(&event("response.output_text.delta", json!({ "content_index": 0, "delta": piece })))?;
                    if reply.cut {
                        return Ok(());
                    }
                    thread::sleep(reply.pause);
                }
                response
                    .event(&event("response.output_text.done", json!({ "content_index": 0, "text": reply.text() })))?;
            }
            Some("reasoning") => response.event(&event(
                "response.reasoning_summary_text.delta",
                json!({ "summary_index": 0, "delta": reply.thinking }),
            ))?,
            _ => response
                .event(&event("response.function_call_arguments.done", json!({ "arguments": item["arguments"] })))?,
        }
        response.event(&event("response.output_item.done", json!({ "item": item })))?;
    }
    response.event(&json!({ "type": "response.completed", "response": whole(&id, turn, reply, items) }))
}

/// An item as it is announced, without its content.
fn opened(item: &Value) -> Value {
    let mut opened = item.clone();
    match item["type"].as_str() {
        Some("message") => opened["content"] = json!([]),
        Some("function_call") => opened["arguments"] = json!(""),
        _ => {}
    }
    if opened.get("status").is_some() {
        opened["status"] = json!("in_progress");
    }
    opened
}
