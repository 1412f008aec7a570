//! JSON pointers (RFC 6901).

use serde_json::{Map, Value};

/// Escapes a member's name for a JSON pointer.
#[must_use]
pub fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The member's name for a part of a JSON pointer.
#[must_use]
pub fn unescape_pointer(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The pointer for a path of members.
pub fn pointer_along<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    names.into_iter().fold(String::new(), |pointer, name| format!("{pointer}/{}", escape_pointer(name)))
}

/// Whether `pointer` is `ancestor` or below it.
#[must_use]
pub fn lies_in(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The member names of a pointer.
pub fn pointer_names(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(unescape_pointer)
}

/// Every value of a document with its pointer, in order. Objects with members are entered, not returned.
#[must_use]
pub fn leaves(document: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect(document, "", &mut found);
    found
}

fn collect<'v>(members: &'v Map<String, Value>, above: &str, found: &mut Vec<(String, &'v Value)>) {
    for (name, value) in members {
        let pointer = format!("{above}/{}", escape_pointer(name));
        match value {
            Value::Object(members) if !members.is_empty() => collect(members, &pointer, found),
            other => found.push((pointer, other)),
        }
    }
}

/// Builds a document from its leaves. A leaf that contradicts an earlier one is omitted.
pub fn document_of(leaves: impl IntoIterator<Item = (String, Value)>) -> Map<String, Value> {
    let mut document = Map::new();
    for (pointer, value) in leaves {
        put(&mut document, &pointer, value);
    }
    document
}

fn put(document: &mut Map<String, Value>, pointer: &str, value: Value) {
    let mut names: Vec<String> = pointer_names(pointer).collect();
    let Some(last) = names.pop() else { return };
    let mut at = document;
    for name in names {
        match at.entry(name).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => at = inner,
            _ => return,
        }
    }
    at.entry(last).or_insert(value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pointer_lies_in_itself_and_its_ancestors() {
        assert!(lies_in("/a/b", "/a") && lies_in("/a", "/a") && !lies_in("/ab", "/a"));
    }

    #[test]
    fn document_round_trips_through_its_leaves() {
        let document = json!({"b": {"c/d": [1, {"x": 2}], "~": null}, "a": {}, "": "empty"});
        let Value::Object(document) = document else { return };
        let found = leaves(&document);
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/b/c~1d", "/b/~0", "/a", "/"]);
        let owned = found.into_iter().map(|(pointer, value)| (pointer, value.clone()));
        assert_eq!(document_of(owned), document);
        let names: Vec<String> = pointer_names("/b/c~1d").collect();
        assert_eq!((names.len(), pointer_along(&names).as_str()), (2, "/b/c~1d"));
        let odd = document_of([("/a".to_owned(), json!(1)), ("/a/b".to_owned(), json!(2))]);
        assert_eq!(Value::Object(odd), json!({"a": 1}));
    }
}
