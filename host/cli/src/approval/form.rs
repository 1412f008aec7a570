//! The form of an MCP server as questions.
//!
//! A form is described by a JSON Schema: an object whose members are texts, numbers, switches or choices.

use serde_json::{Map, Value};

use super::answers;
use ostler_protocol::{ApprovalQuestion, QuestionOption};

/// A field of a form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    name: String,
    kind: FieldKind,
    required: bool,
    /// The field as a question. Its answer is checked by [`Field::value`].
    pub(super) question: ApprovalQuestion,
}

#[derive(Clone, Debug, PartialEq)]
enum FieldKind {
    Text,
    Number,
    Integer,
    Switch,
    /// The values of the options.
    Choice(Vec<Value>),
}

/// The fields of a form. `None` if the schema describes something else.
pub(super) fn fields(schema: &Value) -> Option<Vec<Field>> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let members = schema.get("properties")?.as_object()?;
    members.iter().map(|(name, member)| field(name, member, required.contains(&name.as_str()))).collect()
}

fn field(name: &str, member: &Value, required: bool) -> Option<Field> {
    let text = |name: &str| member.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (kind, options) = match (member.get("enum").and_then(Value::as_array), text("type")) {
        (Some(values), _) => {
            let names = member.get("enumNames").and_then(Value::as_array);
            let label = |(index, value): (usize, &Value)| {
                let name = names.and_then(|names| names.get(index)).and_then(Value::as_str);
                name.or_else(|| value.as_str()).map_or_else(|| value.to_string(), str::to_owned)
            };
            (FieldKind::Choice(values.clone()), values.iter().enumerate().map(label).collect())
        }
        (None, Some("string")) => (FieldKind::Text, Vec::new()),
        (None, Some("number")) => (FieldKind::Number, Vec::new()),
        (None, Some("integer")) => (FieldKind::Integer, Vec::new()),
        (None, Some("boolean")) => (FieldKind::Switch, vec!["yes".to_owned(), "no".to_owned()]),
        _ => return None,
    };
    let mut question = text("description").or_else(|| text("title")).unwrap_or(name).to_owned();
    if !required {
        question.push_str(" (optional)");
    }
    let option = |label: String| QuestionOption { label, description: None };
    let question = ApprovalQuestion {
        id: name.to_owned(),
        question,
        header: Some(text("title").unwrap_or(name).to_owned()),
        options: options.into_iter().map(option).collect(),
        multi_select: false,
        secret: text("format") == Some("password"),
    };
    Some(Field { name: name.to_owned(), kind, required, question })
}

impl Field {
    /// The value that a text means. `None` leaves an optional field out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn value(&self, text: &str) -> Result<Option<Value>, String> {
        if text.trim().is_empty() && !self.required {
            return Ok(None);
        }
        let answer = answers::of_text(&self.question, text)?.into_iter().next().unwrap_or_default();
        let value = match &self.kind {
            FieldKind::Text => Value::from(answer),
            FieldKind::Number => answer.parse::<f64>().map(Value::from).map_err(|_| "must be a number".to_owned())?,
            FieldKind::Integer => {
                answer.parse::<i64>().map(Value::from).map_err(|_| "must be a whole number".to_owned())?
            }
            FieldKind::Switch => match answer.to_lowercase().as_str() {
                "yes" | "y" | "true" => Value::Bool(true),
                "no" | "n" | "false" => Value::Bool(false),
                _ => return Err("answer yes or no".to_owned()),
            },
            FieldKind::Choice(values) => {
                let index = self.question.options.iter().position(|option| option.label == answer);
                let value = index.and_then(|index| values.get(index)).cloned();
                value.ok_or_else(|| format!("the choices are 1 to {}", values.len()))?
            }
        };
        Ok(Some(value))
    }
}

/// The filled-in form.
pub(super) fn content(fields: &[Field], values: &[Option<Value>]) -> Value {
    let given = fields.iter().zip(values).filter_map(|(field, value)| Some((field.name.clone(), value.clone()?)));
    Value::Object(given.collect())
}

/// A form with empty values, to be filled in with an editor.
pub(super) fn template(schema: &Value) -> Value {
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let empty = |member: &Value| match member.get("type").and_then(Value::as_str) {
        _ if member.get("default").is_some() => member.get("default").cloned().unwrap_or_default(),
        Some("boolean") => Value::Bool(false),
        Some("number" | "integer") => Value::from(0),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(Map::new()),
        _ => Value::from(""),
    };
    Value::Object(members.map(|(name, member)| (name.clone(), empty(member))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn form_becomes_typed_content() {
        let schema = json!({"type": "object", "required": ["name", "size"], "properties": {
            "name": {"type": "string", "title": "Name", "description": "The name of the branch"},
            "size": {"type": "integer"},
            "force": {"type": "boolean"},
            "color": {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"]},
            "note": {"type": "string"},
        }});
        let fields = fields(&schema).unwrap();
        let field = |name: &str| fields.iter().find(|field| field.name == name).unwrap();
        assert_eq!(field("name").question.question, "The name of the branch");
        assert_eq!(field("size").value("12").unwrap(), Some(json!(12)));
        assert_eq!(field("size").value("1.5").unwrap_err(), "must be a whole number");
        assert!(field("size").value("").is_err(), "it is required");
        assert_eq!(field("force").value("1").unwrap(), Some(json!(true)));
        assert_eq!(field("force").value("No").unwrap(), Some(json!(false)));
        assert_eq!(field("color").value("2").unwrap(), Some(json!("g")));
        assert!(field("color").value("blue").is_err());
        assert_eq!(field("note").value(" ").unwrap(), None);
        let values: Vec<Option<Value>> = fields.iter().map(|field| field.value("1").ok().flatten()).collect();
        assert_eq!(content(&fields, &values)["size"], json!(1));
        assert_eq!(template(&schema)["force"], json!(false));
    }

    #[test]
    fn nested_schema_is_not_a_form() {
        assert_eq!(fields(&json!({"properties": {"a": {"type": "object"}}})), None);
        assert_eq!(fields(&json!({"type": "object"})), None);
    }
}
