//! How agents and tools wrap a text: in JSON, or with prefixes before its lines.

use super::encode::{json, json_for_html, json_for_scripts, json_of_php, markup, python};
use super::random::Random;
use super::{Case, Set};

/// Wraps about every second case.
pub fn wrap(r: &mut Random, set: Set, case: Case) -> Case {
    if r.below(2) == 0 {
        return case;
    }
    match (set, r.below(12)) {
        (Set::Tuning, 0) => event(r, case, json, &[CLAUDE_TEXT]),
        (Set::Tuning, 1) => event(r, case, json, &[CLAUDE_BASH]),
        (Set::Tuning, 2) => event(r, case, json, &[CLAUDE_RESULT]),
        (Set::Tuning, 3) => event(r, case, json, &[CODEX_COMMAND]),
        (Set::Tuning, 4) => event(r, case, json, &[HTTP_BODY, CLAUDE_RESULT]),
        (Set::Tuning, 5) => event(r, case, json_for_html, &[GO_LOG]),
        (Set::Tuning, 9) => event(r, case, json_of_php, &[PHP_LOG]),
        (Set::Tuning, 10) => event(r, case, markup, &[JUNIT]),
        (Set::Tuning, 6) => each_line(case, |_| "+".to_owned()),
        (Set::Tuning, 7) => each_line(case, |at| format!("{:6}\t", at + 1)),
        (Set::Tuning, 8) => each_line(case, |_| "2026-11-03T08:14:07.5518290Z ".to_owned()),
        (Set::Tuning, _) => Case { text: case.text.replace('\n', "\r\n"), ..case },
        (Set::HeldOut, 0) => event(r, case, json, &[CLAUDE_PARTIAL]),
        (Set::HeldOut, 1) => event(r, case, json, &[CODEX_OUTPUT]),
        (Set::HeldOut, 2) => event(r, case, json, &[CODEX_ITEM]),
        (Set::HeldOut, 3) => event(r, case, json, &[ACP_UPDATE]),
        (Set::HeldOut, 4) => event(r, case, json, &[STDOUT, CODEX_OUTPUT]),
        (Set::HeldOut, 5) => event(r, case, json_for_html, &[CLAUDE_RESULT_TEXT]),
        (Set::HeldOut, 9) => event(r, case, json_for_scripts, &[JAVA_LOG]),
        (Set::HeldOut, 10) => event(r, case, python, &[PYTHON_BYTES]),
        (Set::HeldOut, 6) => each_line(case, |_| "-".to_owned()),
        (Set::HeldOut, 7) => each_line(case, |at| format!("conf/notes.txt:{}:", at + 3)),
        (Set::HeldOut, 8) => each_line(case, |_| "worker-1  | ".to_owned()),
        (Set::HeldOut, _) => each_line(case, |at| format!("{:>5}\u{2192}", at + 1)),
    }
}

const CLAUDE_TEXT: &str =
    r#"{"type":"assistant","message":{"id":"msg_01#","role":"assistant","content":[{"type":"text","text":"@"}]}}"#;
const CLAUDE_BASH: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_01#","name":"Bash","input":{"command":"@","description":"Run it"}}]}}"#;
const CLAUDE_RESULT: &str = r#"{"type":"user","message":{"role":"user","content":[{"tool_use_id":"toolu_01#","type":"tool_result","content":"@","is_error":false}]},"session_id":"2f1c5a4e-7f0b-4a57-9a53-0c1d1f4a9e11"}"#;
const CODEX_COMMAND: &str = r#"{"type":"item.completed","item":{"id":"item_3","type":"command_execution","command":"bash -lc 'make'","aggregated_output":"@","exit_code":0,"status":"completed"}}"#;
const HTTP_BODY: &str = r#"{"status":200,"body":"@"}"#;
const GO_LOG: &str = r#"{"time":"2026-11-03T08:14:00Z","level":"INFO","msg":"@","caller":"main.go:41"}"#;
const CLAUDE_PARTIAL: &str = r#"{"type":"stream_event","event":{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"@"}}}"#;
const CODEX_OUTPUT: &str =
    r#"{"type":"response_item","payload":{"type":"function_call_output","call_id":"call_#","output":"@"}}"#;
const CODEX_ITEM: &str =
    r#"{"method":"item/completed","params":{"item":{"type":"agentMessage","id":"msg_#","text":"@"}}}"#;
const ACP_UPDATE: &str = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"sess_#","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"@"}}}}"#;
const STDOUT: &str = r#"{"stdout":"@","stderr":"","interrupted":false}"#;
const CLAUDE_RESULT_TEXT: &str = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":4,"result":"@"}"#;

const PHP_LOG: &str = r#"{"message":"@","context":{},"level":200,"channel":"app"}"#;
const JUNIT: &str = r#"<testcase name="t#"><system-out>@</system-out></testcase>"#;
const JAVA_LOG: &str = r#"{"timestamp":1793693640,"logger":"com.acme.Main","message":"@"}"#;
const PYTHON_BYTES: &str = "CompletedProcess(args=['make'], returncode=0, stdout=b'@')";

/// Puts the text into the frames, the first one innermost. `@` stands for the text, `#` for an id.
fn event(r: &mut Random, case: Case, escape: fn(&str) -> String, frames: &[&str]) -> Case {
    let Case { rule, mut text, mut secrets } = case;
    for frame in frames {
        let id = r.alnum(22);
        text = frame.replace('#', &id).replace('@', &escape(&text));
        secrets = secrets.iter().map(|secret| escape(secret)).collect();
    }
    Case { rule, text: text + "\n", secrets }
}

fn each_line(case: Case, mark: impl Fn(usize) -> String) -> Case {
    let text = case.text.split_inclusive('\n').enumerate().map(|(at, line)| mark(at) + line).collect();
    Case { text, ..case }
}
