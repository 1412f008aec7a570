//! JSON Pointers (RFC 6901) into start payloads: differences between two payloads, and the values that overrides replace.

use serde_json::Value;

use ostler_protocol::{escape_pointer, unescape_pointer};

/// Pointers at which two documents of the same shape differ. If the shape differs, the pointer of the containing value.
pub(crate) fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut pointers = Vec::new();
    collect_differences(left, right, "", &mut pointers);
    pointers
}

fn collect_differences(left: &Value, right: &Value, at: &str, pointers: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            if left.keys().any(|name| !right.contains_key(name)) {
                pointers.push(at.to_owned());
                return;
            }
            for (name, value) in left {
                let pointer = format!("{at}/{}", escape_pointer(name));
                collect_differences(value, right.get(name).unwrap_or(&Value::Null), &pointer, pointers);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                collect_differences(left, right, &format!("{at}/{index}"), pointers);
            }
        }
        _ if left == right => {}
        _ => pointers.push(at.to_owned()),
    }
}

/// Whether a document sets the value at `pointer`: it has a value there, or one of the parents is not an object, which
/// replaces everything below it.
pub(crate) fn sets(document: &Value, pointer: &str) -> bool {
    let mut at = document;
    for step in pointer.split('/').skip(1) {
        let Value::Object(members) = at else { return true };
        let name = unescape_pointer(step);
        match members.get(&name) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}

/// Pointers of the leaves of a document: every value except an object with members. A list is one leaf.
pub(crate) fn leaves(document: &Value) -> Vec<String> {
    fn collect(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (name, value) in members {
                    collect(value, &format!("{at}/{}", escape_pointer(name)), found);
                }
            }
            _ => found.push(at.to_owned()),
        }
    }
    let mut found = Vec::new();
    collect(document, "", &mut found);
    found
}

/// The pointer of the outermost list that contains `pointer`, or `pointer` itself. Lists are merged as a whole, so that an
/// override must set this value to replace the one at `pointer`.
pub(crate) fn replaceable<'a>(document: &Value, pointer: &'a str) -> &'a str {
    let mut at = document;
    for (start, _) in pointer.match_indices('/') {
        if at.is_array() {
            return pointer.get(..start).unwrap_or(pointer);
        }
        let step = pointer.get(start + 1..).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        match at.get(unescape_pointer(step)) {
            Some(next) => at = next,
            None => return pointer,
        }
    }
    pointer
}

/// Removes the value at `pointer`, if it is a member of an object.
pub(crate) fn remove(document: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(members)) = document.pointer_mut(parent) {
        members.shift_remove(&unescape_pointer(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_pointer() {
        let left = json!({"a": "x", "b/c": [1, "y"], "d": {"k": 1}});
        let right = json!({"a": "z", "b/c": [1, "-"], "d": {"j": 1}});
        assert_eq!(differences(&left, &right), ["/a", "/b~1c/1", "/d"]);
    }

    #[test]
    fn value_and_parent_that_is_no_object_set_a_pointer() {
        let document = json!({"a": {"b/c": 1, "n": null}, "l": [], "s": "x"});
        for pointer in ["/a", "/a/b~1c", "/a/n", "/a/n/deeper", "/l", "/l/0/x", "/s"] {
            assert!(sets(&document, pointer), "{pointer}");
        }
        for pointer in ["/b", "/a/x", "/a/bc"] {
            assert!(!sets(&document, pointer), "{pointer}");
        }
        assert_eq!(leaves(&document), ["/a/b~1c", "/a/n", "/l", "/s"]);
    }

    #[test]
    fn list_is_replaced_as_a_whole() {
        let document = json!({"m": {"servers": [{"env": {"T": "x"}}]}, "p/q": "y"});
        assert_eq!(replaceable(&document, "/m/servers/0/env/T"), "/m/servers");
        assert_eq!(replaceable(&document, "/p~1q"), "/p~1q");
        assert_eq!(replaceable(&document, "/m"), "/m");
        assert_eq!(replaceable(&document, "/gone/x"), "/gone/x");
    }
}
