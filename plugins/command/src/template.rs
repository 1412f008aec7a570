//! Arguments with placeholders.

/// The value that replaces a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Prompt,
    Model,
    Cwd,
    Session,
}

impl Placeholder {
    fn of(name: &str) -> Option<Self> {
        match name {
            "prompt" => Some(Self::Prompt),
            "model" => Some(Self::Model),
            "cwd" => Some(Self::Cwd),
            "session" => Some(Self::Session),
            _ => None,
        }
    }

    /// JSON Pointer of the value in the payload.
    pub(crate) fn pointer(self) -> &'static str {
        match self {
            Self::Prompt => "/prompt",
            Self::Model => "/model",
            Self::Cwd => "/cwd",
            Self::Session => "/harness/resumeSessionId",
        }
    }
}

/// Arguments that are used or omitted together.
pub(crate) type Group = Vec<Template>;

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

impl Template {
    /// Parses an argument such as `--model={model}`; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// A message about an invalid placeholder or brace.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = after.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = after.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some((name, after)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                let placeholder = Placeholder::of(name).ok_or_else(|| {
                    format!("contains the unknown placeholder `{{{name}}}`; use {{prompt}}, {{model}}, {{cwd}} or {{session}}, and {{{{ for a brace")
                })?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Value(placeholder));
                rest = after;
            } else {
                return Err("has a brace that is not part of a placeholder; write {{ or }} for a brace".to_owned());
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// The number of times that a placeholder occurs.
    pub(crate) fn count(&self, placeholder: Placeholder) -> usize {
        self.0.iter().filter(|part| **part == Part::Value(placeholder)).count()
    }

    /// The placeholder at the beginning of the argument, whose value could be parsed as a flag.
    pub(crate) fn leading(&self) -> Option<Placeholder> {
        match self.0.first() {
            Some(Part::Value(placeholder)) => Some(*placeholder),
            _ => None,
        }
    }

    /// Whether this is `--`, after which programs do not parse arguments as flags.
    pub(crate) fn is_end_of_flags(&self) -> bool {
        matches!(self.0.as_slice(), [Part::Text(text)] if text == "--")
    }

    /// The argument with the values of its placeholders. None if a placeholder has no value.
    pub(crate) fn fill<'a>(&self, value: impl Fn(Placeholder) -> Option<&'a str>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(placeholder) => out.push_str(value(*placeholder)?),
            }
        }
        Some(out)
    }
}
