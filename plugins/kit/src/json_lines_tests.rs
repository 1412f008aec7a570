#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn one(line: &str) -> Value {
    let Reading { mut documents, broken } = read(line);
    assert_eq!((documents.len(), &broken), (1, &None), "{line}");
    documents.remove(0)
}

#[test]
fn unpaired_surrogate_becomes_the_replacement_character() {
    assert_eq!(one(r#"{"text":"party \ud83c"}"#), json!({ "text": "party \u{fffd}" }));
    assert_eq!(one(r#"{"text":"\udf89 after"}"#), json!({ "text": "\u{fffd} after" }));
    assert_eq!(one(r#"{"text":"\ud83c\ud83c\udf89"}"#), json!({ "text": "\u{fffd}🎉" }));
    assert_eq!(one(r#"{"text":"\ud83c\u0041\\ud83c"}"#), json!({ "text": "\u{fffd}A\\ud83c" }));
    assert_eq!(one(r#"{"\ud83c":[1]}"#), json!({ "\u{fffd}": [1] }));
}

#[test]
fn number_out_of_range_becomes_the_largest_power_of_ten() {
    for (number, read) in [("1e400", 1e308), ("-1e400", -1e308), ("Infinity", 1e308)] {
        assert_eq!(one(&format!(r#"{{"a":{number},"b":2}}"#)), json!({ "a": read, "b": 2 }));
    }
    let digits = "9".repeat(400);
    assert_eq!(one(&format!(r#"{{"a":[{digits},-{digits}]}}"#)), json!({ "a": [1e308, -1e308] }));
    assert_eq!(one(r#"{"a":NaN,"b":[1e400]}"#), json!({ "a": null, "b": [1e308] }));
    assert_eq!(one(r#"{"a":01,"b":1.}"#), json!({ "a": 1.0, "b": 1.0 }));
}

#[test]
fn several_documents_on_one_line_are_all_parsed() {
    let reading = read(r#"{"a":1}{"b":"}{"} [2]"#);
    assert_eq!(reading, Reading { documents: vec![json!({ "a": 1 }), json!({ "b": "}{" }), json!([2])], broken: None });
    let reading = read(r#"{"a":"\ud83c"}{"b":1e999} rest"#);
    assert_eq!(reading.documents, [json!({ "a": "\u{fffd}" }), json!({ "b": 1e308 })]);
    assert_eq!(reading.broken, Some(Value::Null));
}

#[test]
fn control_characters_and_unknown_escapes_are_taken_literally() {
    assert_eq!(one("{\"a\":\"tab\tescape \\x1b \\u12g4 end\"}"), json!({ "a": "tab\tescape \\x1b \\u12g4 end" }));
}

#[test]
fn deeply_nested_value_becomes_a_string() {
    let deep = format!("{}\"]\"{}", "[".repeat(500), "]".repeat(500));
    let mut value = &one(&format!(r#"{{"deep":{deep},"type":"result"}}"#));
    assert_eq!(value["type"], "result");
    value = &value["deep"];
    while value.is_array() {
        value = &value[0];
    }
    let text = value.as_str().unwrap();
    assert!(text.starts_with("[[[") && text.ends_with("]]]") && text.contains("\"]\""), "{text}");
}

#[test]
fn beginning_of_a_cut_document_is_known() {
    let known = |line: &str| {
        let reading = read(line);
        assert!(reading.documents.is_empty(), "{line}");
        reading.broken.unwrap()
    };
    assert_eq!(known(r#"{"a":1,"b":"some te"#), json!({ "a": 1, "b": "some te" }));
    assert_eq!(known(r#"{"a":1,"b":"some \ud83"#), json!({ "a": 1, "b": "some " }));
    assert_eq!(known(r#"{"a":1,"b":"some \"#), json!({ "a": 1, "b": "some " }));
    assert_eq!(known(r#"{"a":[{"b":tru"#), json!({ "a": [{}] }));
    assert_eq!(known(r#"{"a":12"#), json!({}));
    assert_eq!(known(r#"{"a":1,"nam"#), json!({ "a": 1 }));
    assert_eq!(known(r#"{"a":1,"name":"#), json!({ "a": 1 }));
    assert_eq!(known("{"), json!({}));
    let reading = read(r#"{"a":1}{"b":[2,"x"#);
    assert_eq!(reading, Reading { documents: vec![json!({ "a": 1 })], broken: Some(json!({ "b": [2, "x"] })) });
}

#[test]
fn part_before_a_syntax_error_is_known() {
    for (line, known) in [
        (r#"{"a":1,"b":what,"c":2}"#, json!({ "a": 1 })),
        (r#"{"a":1 "b":2}"#, json!({ "a": 1 })),
        (r#"{"a":[1}"#, json!({ "a": [1] })),
        (r#"{"a":"ä","b":{1:2}}"#, json!({ "a": "ä", "b": {} })),
    ] {
        assert_eq!(read(line), Reading { documents: Vec::new(), broken: Some(known) }, "{line}");
    }
}

#[test]
fn line_that_is_not_json_is_not_part_of_the_protocol() {
    for line in ["", "   ", "npm warn something {}", "note: {\"a\":1}", "{not json}", "[warn] text", "[1,"] {
        assert_eq!(read(line), Reading::default(), "{line}");
    }
}

#[test]
fn last_member_of_an_object_is_recognized() {
    let object = json!({ "a": 1, "result": "x" });
    assert!(ends_with_member(object.as_object().unwrap(), "result"));
    assert!(!ends_with_member(object.as_object().unwrap(), "a"));
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}|.{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("\\PC{0,6}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn valid_line_is_parsed_as_by_serde_json(document in documents()) {
        let line = document.to_string();
        let expected: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(read(&line), Reading { documents: vec![expected], broken: None });
    }

    #[test]
    fn repair_does_not_change_a_valid_document(document in documents()) {
        let line = json!([document]).to_string();
        let expected: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(repair(&line), Reading { documents: vec![expected], broken: None });
    }

    #[test]
    fn concatenated_documents_are_parsed_one_by_one(documents in prop::collection::vec(documents(), 2..5), gap in " {0,2}") {
        let documents: Vec<Value> = documents.into_iter().map(|document| json!({ "d": document })).collect();
        let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
        let expected: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        prop_assert_eq!(read(&texts.join(&gap)), Reading { documents: expected, broken: None });
    }

    #[test]
    fn cut_document_is_known_up_to_the_cut(document in documents(), at in any::<prop::sample::Index>()) {
        let line = json!({ "first": 1, "then": document }).to_string();
        let cut = line.floor_char_boundary(at.index(line.len()));
        let reading = read(&line[..cut]);
        prop_assert!(reading.documents.is_empty());
        prop_assert_eq!(reading.broken.is_some(), cut > 0);
        if cut > r#"{"first":1,"#.len() {
            prop_assert_eq!(&reading.broken.unwrap()["first"], &json!(1));
        }
    }

    #[test]
    fn arbitrary_lines_do_not_panic(line in r#"(\{|\}|\[|\]|"|\\|\\u[0-9a-fA-F]{0,4}|:|,|-?[0-9]{1,3}(e[0-9]{1,4})?|true|nul|NaN|"a":| |\PC|\x00){0,40}"#) {
        let _ = (read(&line), repair(&line));
    }
}
