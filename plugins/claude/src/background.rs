//! Background tasks of claude: shells and sub-agents. claude waits for them after its last line, and starts another turn
//! when one ends.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Maximum number of tasks that are followed.
const OPEN_TASKS: usize = 64;

/// The tasks that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Background {
    open: BTreeMap<String, Value>,
}

impl Background {
    /// Reads a line of type `system`. Returns whether it changes the running tasks.
    pub(crate) fn update(&mut self, event: &Map<String, Value>) -> bool {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let status = event.get("patch").and_then(|patch| patch.get("status")).and_then(Value::as_str);
        match (word("subtype"), word("task_id")) {
            // The complete list of running tasks.
            ("background_tasks_changed", _) => {
                let tasks = event.get("tasks").and_then(Value::as_array).into_iter().flatten();
                let listed = tasks.filter_map(Value::as_object).filter_map(entry).take(OPEN_TASKS).collect();
                let changed = self.open != listed;
                self.open = listed;
                changed
            }
            ("task_started", _) if self.open.len() < OPEN_TASKS => {
                entry(event).is_some_and(|(id, task)| self.open.insert(id, task).is_none())
            }
            ("task_updated", id) if status.is_some_and(|status| !matches!(status, "running" | "pending")) => {
                self.open.remove(id).is_some()
            }
            ("task_notification", id) => self.open.remove(id).is_some(),
            _ => false,
        }
    }

    /// The running tasks.
    pub(crate) fn open(&self) -> Vec<Value> {
        self.open.values().cloned().collect()
    }
}

/// A task that claude waits for. It does not wait for those that watch something or run elsewhere.
fn entry(task: &Map<String, Value>) -> Option<(String, Value)> {
    if ["ambient", "off_host"].iter().any(|flag| task.get(*flag) == Some(&Value::Bool(true))) {
        return None;
    }
    let word = |key: &str| task.get(key).and_then(Value::as_str).unwrap_or_default();
    let id = Some(word("task_id")).filter(|id| !id.is_empty())?;
    let description = ostler_provider_kit::failure::shorten(word("description"), 200);
    Some((id.to_owned(), json!({ "id": id, "kind": word("task_type"), "description": description })))
}
