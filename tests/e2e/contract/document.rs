//! The OpenRPC document as a client sees it.

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The OpenRPC document of a host, with compiled schemas.
pub struct Document {
    methods: BTreeMap<String, Method>,
    events: BTreeMap<String, Validator>,
    envelope: Validator,
    error: Validator,
    common: BTreeMap<String, i64>,
}

struct Method {
    params: Vec<Param>,
    by_position: bool,
    result: Validator,
    errors: BTreeMap<String, i64>,
}

struct Param {
    name: String,
    required: bool,
    schema: Validator,
}

impl Document {
    /// Reads the answer of `rpc.discover`.
    pub fn read(text: &Value) -> Self {
        let schema = |schema: &Value| {
            // References point to the components of the document.
            let whole = json!({ "allOf": [schema], "components": text["components"] });
            jsonschema::validator_for(&whole).unwrap_or_else(|error| panic!("{schema}: {error}"))
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let name = |value: &Value, member: &str| value[member].as_str().unwrap().to_owned();
        let errors = |value: &Value| {
            list(value).iter().map(|error| (name(error, "message"), error["code"].as_i64().unwrap())).collect()
        };
        let methods = list(&text["methods"]).into_iter().map(|method| {
            let params = list(&method["params"]).into_iter().map(|param| Param {
                name: name(&param, "name"),
                required: param["required"] == true,
                schema: schema(&param["schema"]),
            });
            let read = Method {
                params: params.collect(),
                by_position: method["paramStructure"] == "either",
                result: schema(&method["result"]["schema"]),
                errors: errors(&method["errors"]),
            };
            (name(&method, "name"), read)
        });
        let events = list(&text["x-events"]["types"]);
        Self {
            methods: methods.collect(),
            events: events.iter().map(|event| (name(event, "type"), schema(&event["payload"]))).collect(),
            envelope: schema(&text["x-events"]["envelope"]),
            error: schema(&text["components"]["x-error-data"]),
            common: errors(&text["x-common-errors"]),
        }
    }

    /// The methods by name.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }

    /// The error kinds that the document lists for a method, without those of every method.
    pub fn errors(&self, method: &str) -> impl Iterator<Item = &str> {
        self.methods[method].errors.keys().map(String::as_str)
    }

    /// The types of events.
    pub fn events(&self) -> BTreeSet<&str> {
        self.events.keys().map(String::as_str).collect()
    }

    /// Parameters as an array in the method's order, with null for those that are left out before another one. None if
    /// some are not parameters of the method.
    pub fn by_position(&self, method: &str, params: &Value) -> Option<Vec<Value>> {
        let (method, given) = (&self.methods[method], params.as_object()?);
        let last = method.params.iter().rposition(|param| given.contains_key(&param.name));
        let sent = method.params.iter().take(last.map_or(0, |last| last + 1));
        let values: Vec<Value> = sent.map(|param| given.get(&param.name).cloned().unwrap_or_default()).collect();
        let known = given.keys().all(|name| method.params.iter().any(|param| param.name == *name));
        (method.by_position && known).then_some(values)
    }

    /// Checks a call and its result against the document.
    #[track_caller]
    pub fn check_call(&self, method: &str, params: &Value, result: &Value) {
        let described = &self.methods[method];
        let empty = Map::new();
        let given = params.as_object().unwrap_or(&empty);
        for (name, value) in given {
            let param = described.params.iter().find(|param| param.name == *name);
            let param = param.unwrap_or_else(|| panic!("{method}: the document has no parameter {name}"));
            check(&param.schema, value, &format!("{method}, parameter {name}"));
        }
        for param in described.params.iter().filter(|param| param.required) {
            assert!(given.contains_key(&param.name), "{method} succeeds without {}, which is required", param.name);
        }
        check(&described.result, result, &format!("{method}, result"));
    }

    /// Checks an error against the document, and gives its kind.
    #[track_caller]
    pub fn check_error<'a>(&self, method: &str, error: &'a Value) -> &'a str {
        let kind = error["data"]["kind"].as_str().unwrap_or_else(|| panic!("{method}: {error}"));
        check(&self.error, &error["data"], &format!("{method}, {kind}"));
        let code = self.methods[method].errors.get(kind).or_else(|| self.common.get(kind));
        assert_eq!(error["code"].as_i64().as_ref(), code, "the document does not list {kind} for {method}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{method}: {error}");
        kind
    }

    /// Checks an event against the document.
    #[track_caller]
    pub fn check_event(&self, event: &Value) {
        let kind = event["type"].as_str().unwrap();
        check(&self.envelope, event, kind);
        let payload = self.events.get(kind).unwrap_or_else(|| panic!("the document has no event {kind}"));
        check(payload, &event["payload"], kind);
    }
}

#[track_caller]
fn check(schema: &Validator, value: &Value, what: &str) {
    let wrong: Vec<String> =
        schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{what} does not match the document: {wrong:#?}\n{value:#}");
}
