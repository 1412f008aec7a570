//! Merges one JSON document into another.

use serde_json::{Map, Value};

/// What null means in the document that is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// Nothing, as if the member were missing: the base keeps its value.
    Missing,
    /// Removes the member.
    Clear,
}

/// A member that is replaced as a whole: two merged JSON Schemas would be neither of them, and null is a value in a
/// schema.
const WHOLE: &str = "schema";

/// Merges a partial start payload into another: objects member by member at every depth. Lists, JSON Schemas and other
/// values replace those of the base. Adds no null to the result, except inside a schema.
pub fn merge(base: &mut Value, over: Value, nulls: Nulls) {
    put(base, over, nulls, Some(WHOLE));
}

/// Applies a JSON merge patch (RFC 7396).
pub fn merge_patch(base: &mut Value, patch: Value) {
    put(base, patch, Nulls::Clear, None);
}

fn put(base: &mut Value, over: Value, nulls: Nulls, whole: Option<&str>) {
    let Value::Object(over) = over else {
        if !over.is_null() || nulls == Nulls::Clear {
            *base = over;
        }
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Value::Object(base) = base else { return };
    for (name, value) in over {
        match value {
            Value::Null if nulls == Nulls::Missing => {}
            Value::Null => _ = base.shift_remove(&name),
            value if whole == Some(name.as_str()) => _ = base.insert(name, value),
            value => put(base.entry(name).or_insert(Value::Null), value, nulls, whole),
        }
    }
}

/// Removes members that are null, which count as missing. A JSON Schema inside the document is not changed, because
/// null is a value there.
pub fn strip_nulls(document: &mut Value) {
    match document {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            for (name, value) in members.iter_mut() {
                if name != "schema" {
                    strip_nulls(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_objects_member_by_member() {
        let mut base = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "f": 1});
        merge(
            &mut base,
            json!({"a": {"b": 3, "c": null}, "d": [9], "e": null, "f": {"g": {"h": null}}}),
            Nulls::Missing,
        );
        assert_eq!(base, json!({"a": {"b": 3, "c": 2}, "d": [9], "f": {"g": {}}}));
        merge(&mut base, json!({"a": {"c": null}, "f": null}), Nulls::Clear);
        assert_eq!(base, json!({"a": {"b": 3}, "d": [9]}));
    }

    #[test]
    fn replaces_schemas_as_a_whole() {
        let at = |schema: Value| json!({"harness": {"structuredOutput": {"schema": schema, "strict": true}}});
        let mut base = at(json!({"properties": {"a": {}}, "required": ["a"]}));
        let other = json!({"properties": {"b": {"default": null}}});
        merge(&mut base, at(other.clone()), Nulls::Clear);
        assert_eq!(base, at(other));
    }

    #[test]
    fn merge_patch_follows_rfc_7396() {
        // The examples of RFC 7396, appendix A, whose target is an object.
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target.clone();
            merge_patch(&mut merged, patch.clone());
            assert_eq!(merged, result, "{target} with {patch}");
        }
    }

    /// Objects with few names, so that two of them often have the same members.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            2 => Just(Value::Null),
            2 => any::<bool>().prop_map(Value::from),
            2 => (0..3_i64).prop_map(Value::from),
            1 => prop::collection::vec(0..3_i64, 0..3).prop_map(Value::from),
        ];
        let member = leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-c]|schema", inner, 0..4).prop_map(|members| members.into_iter().collect())
        });
        prop::collection::btree_map("[a-c]|schema", member, 0..4).prop_map(|members| members.into_iter().collect())
    }

    /// The expected value of one member of the merged payload.
    fn expected(base: Option<&Value>, over: Option<&Value>, nulls: Nulls, whole: bool) -> Option<Value> {
        match (base, over) {
            (base, None) => base.cloned(),
            (base, Some(Value::Null)) if nulls == Nulls::Missing => base.cloned(),
            (_, Some(Value::Null)) => None,
            (base, Some(Value::Object(over))) if !whole => {
                let empty = Map::new();
                let base = base.and_then(Value::as_object).unwrap_or(&empty);
                let names = base.keys().chain(over.keys().filter(|name| !base.contains_key(*name)));
                let members = names.filter_map(|name| {
                    let value = expected(base.get(name), over.get(name), nulls, name == WHOLE)?;
                    Some((name.clone(), value))
                });
                Some(Value::Object(members.collect()))
            }
            (_, Some(over)) => Some(over.clone()),
        }
    }

    proptest! {
        #[test]
        fn every_member_matches_the_definition(base in document(), over in document()) {
            for nulls in [Nulls::Missing, Nulls::Clear] {
                let mut merged = base.clone();
                merge(&mut merged, over.clone(), nulls);
                prop_assert_eq!(Some(merged), expected(Some(&base), Some(&over), nulls, false));
            }
        }

        #[test]
        fn merging_twice_changes_nothing(base in document(), over in document()) {
            for nulls in [Nulls::Missing, Nulls::Clear] {
                let mut once = base.clone();
                merge(&mut once, over.clone(), nulls);
                let mut twice = once.clone();
                merge(&mut twice, over.clone(), nulls);
                prop_assert_eq!(once, twice);
            }
        }

        #[test]
        fn merging_with_an_empty_document_keeps_the_other(document in document()) {
            let mut merged = document.clone();
            merge(&mut merged, json!({}), Nulls::Clear);
            prop_assert_eq!(&merged, &document);
            let (mut over, mut plain) = (json!({}), document.clone());
            merge(&mut over, document, Nulls::Missing);
            strip_nulls(&mut plain);
            prop_assert_eq!(over, plain);
        }
    }
}
