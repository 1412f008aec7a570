//! JSON Schemas from outside: of a start payload, of a plugin.
//!
//! A schema of a few kilobytes can cause more work than a machine can finish: references that double at each level, or
//! patterns whose automata fill the memory. Therefore a schema is measured before it is compiled, and the work of a
//! check is computed before it starts. A schema or check beyond the limits is rejected.
//!
//! Only references inside of the schema are followed. Compiling and checking recurse as deeply as schema and document
//! nest, so both run on a thread whose stack is large enough for the limits.

use std::collections::{BTreeSet, HashMap};
use std::thread;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use ostler_protocol::{Problem, escape_pointer};

/// The largest schema, in bytes of its JSON.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Levels of JSON in a schema.
const MAX_DEPTH: usize = 100;
/// Schemas in a schema: the root and all below it, definitions included.
const MAX_SCHEMAS: usize = 4096;
/// References in a schema.
const MAX_REFERENCES: usize = 1024;
/// Schemas that apply to one value at once, after all references are followed.
const MAX_EXPANDED: u64 = 10_000;
/// Schemas that apply to one value through one another.
const MAX_CHAIN: usize = 64;
/// Different patterns in a schema.
const MAX_PATTERNS: usize = 200;
/// Bytes of one pattern.
const MAX_PATTERN_BYTES: usize = 4096;
/// Memory for all compiled patterns of a schema together, in bytes; the engine needs a small multiple of it.
const PATTERNS_SIZE: usize = 8 << 20;
/// Memory for one compiled pattern, in bytes.
const PATTERN_SIZE: usize = 256 << 10;
/// Memory for the engine's cache of one pattern while it matches, in bytes.
const PATTERN_CACHE: usize = 64 << 10;
/// Backtracking steps of one match of a pattern with look-around.
const BACKTRACKS: usize = 100_000;

/// Work of one check. A unit is about the cost of one keyword for one value: 0.1 to 1 microseconds.
const MAX_WORK: u64 = 10_000_000;
/// Pairs of a schema and a value that are visited to count the work.
const MAX_PAIRS: u64 = 4_000_000;
/// Such pairs that are cached.
const MAX_CACHED: usize = 500_000;

/// The most problems that one check reports.
const MAX_PROBLEMS: usize = 50;
/// Bytes of one problem's message.
const MAX_MESSAGE: usize = 500;

/// Stack of the thread that compiles or checks. Memory is taken as it is used.
const STACK: usize = 64 << 20;

/// Why a schema, or the check of a document, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if pointer.is_empty() { String::new() } else { format!("at {pointer}: ") })]
pub struct SchemaError {
    /// The position in the schema; empty for the whole schema.
    pub pointer: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A schema within the limits, ready to check documents.
pub struct BoundedSchema {
    validator: Validator,
    graph: Graph,
}

impl std::fmt::Debug for BoundedSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundedSchema").field("schemas", &self.graph.nodes.len()).finish_non_exhaustive()
    }
}

/// Turns a validation error into problems.
type Explain<'a> = &'a (dyn Fn(&ValidationError<'_>) -> Vec<Problem> + Sync);

impl BoundedSchema {
    /// Measures and compiles a schema, 2020-12 unless it says otherwise. Takes a fraction of a second at most.
    ///
    /// # Errors
    /// What is not valid, or which limit is exceeded.
    pub fn compile(document: &Value) -> Result<Self, SchemaError> {
        Self::compile_with(document, true)
    }

    /// The same for a schema whose patterns have neither look-around nor back-references.
    ///
    /// # Errors
    /// As [`compile`](Self::compile); if a pattern has one of them.
    pub fn compile_linear(document: &Value) -> Result<Self, SchemaError> {
        Self::compile_with(document, false)
    }

    fn compile_with(document: &Value, backtracking: bool) -> Result<Self, SchemaError> {
        let size = serde_json::to_string(document).map_or(usize::MAX, |text| text.len());
        if size > MAX_SCHEMA_BYTES {
            return Err(whole(format!("it is longer than {} KiB; make it shorter", MAX_SCHEMA_BYTES >> 10)));
        }
        on_large_stack(|| {
            let graph = Graph::of(document)?;
            let validator = compile(document, graph.patterns, backtracking)?;
            Ok(Self { validator, graph })
        })
    }

    /// The problems of a document, at most 50. Empty if it is valid.
    ///
    /// # Errors
    /// If the check would exceed the work limit.
    pub fn problems(&self, document: &Value, explain: Explain<'_>) -> Result<Vec<Problem>, SchemaError> {
        on_large_stack(|| {
            self.graph.check_work(document)?;
            if self.validator.is_valid(document) {
                return Ok(Vec::new());
            }
            let mut problems: Vec<Problem> = Vec::new();
            for error in self.validator.iter_errors(document).take(MAX_PROBLEMS) {
                problems.extend(explain(&error));
            }
            problems.truncate(MAX_PROBLEMS);
            for problem in &mut problems {
                let end = problem.message.floor_char_boundary(MAX_MESSAGE);
                if end < problem.message.len() {
                    problem.message.truncate(end);
                    problem.message.push('…');
                }
            }
            Ok(problems)
        })
    }
}

/// The members that a schema does not know, if the error is about that.
pub fn unexpected_members<'e>(error: &'e ValidationError<'_>) -> Option<&'e [String]> {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => Some(unexpected),
        _ => None,
    }
}

fn whole(message: impl Into<String>) -> SchemaError {
    SchemaError { pointer: String::new(), message: message.into() }
}

fn at(pointer: &str, message: impl Into<String>) -> SchemaError {
    SchemaError { pointer: pointer.to_owned(), message: message.into() }
}

fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, SchemaError> + Send) -> Result<T, SchemaError> {
    thread::scope(|scope| {
        let started = thread::Builder::new().name("schema".to_owned()).stack_size(STACK).spawn_scoped(scope, work);
        let started = started.map_err(|error| whole(format!("the host has no thread to check it: {error}")))?;
        started.join().map_err(|_| whole("a defect in the host ended its check"))?
    })
}

/// Compiles with the linear engine or, if a pattern needs look-around and `backtracking` allows it, with a backtracking
/// engine with limits.
fn compile(document: &Value, patterns: usize, backtracking: bool) -> Result<Validator, SchemaError> {
    let size = (PATTERNS_SIZE / patterns.max(1)).min(PATTERN_SIZE);
    // It would compile patterns that are in a document.
    let options = || jsonschema::options().offline().with_format("regex", |_: &str| true);
    let linear = options()
        .with_pattern_options(PatternOptions::regex().size_limit(size).dfa_size_limit(PATTERN_CACHE))
        .build(document);
    let error = match linear {
        Ok(validator) => return Ok(validator),
        Err(error) if !backtracking || !about_pattern(&error) => return Err(not_valid(&error, size)),
        Err(error) => error,
    };
    let backtracking =
        PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS).size_limit(size).dfa_size_limit(PATTERN_CACHE);
    options().with_pattern_options(backtracking).build(document).map_err(|_| not_valid(&error, size))
}

/// Whether an error of a schema is about a regular expression. The validator reports the expected format, or the
/// position of the pattern.
fn about_pattern(error: &ValidationError<'_>) -> bool {
    let position = error.instance_path().as_str();
    position.ends_with("/pattern")
        || position.contains("/patternProperties")
        || matches!(error.kind(), ValidationErrorKind::Format { format } if format == "regex")
}

fn not_valid(error: &ValidationError<'_>, size: usize) -> SchemaError {
    let position = error.instance_path().as_str();
    if about_pattern(error) {
        let message = format!(
            "is not a valid regular expression, or compiles to more than {} KiB; use smaller repetitions or fewer patterns",
            size >> 10
        );
        return at(position, message);
    }
    at(position, format!("is not valid: {}", error.masked()))
}

/// Index of a schema in its graph.
type Id = usize;

/// The schemas of a document and the schemas that each applies, for counting work.
#[derive(Debug, Default)]
struct Graph {
    nodes: Vec<Node>,
    /// How many different patterns there are.
    patterns: usize,
}

/// The effect of one schema on a value.
#[derive(Debug, Default)]
struct Node {
    /// Applied to the same value.
    in_place: Vec<Id>,
    /// Applied to members by name.
    members: HashMap<String, Id>,
    /// Applied to any member.
    every_member: Vec<Id>,
    /// Applied to names of members.
    names: Vec<Id>,
    /// Applied to items by position.
    positions: Vec<Id>,
    /// Applied to any item.
    every_item: Vec<Id>,
    /// Units of its own for each value.
    own: u64,
    /// Patterns that a string is matched with.
    text_patterns: u64,
    /// Patterns that names of members are matched with.
    name_patterns: u64,
    /// Keywords that visit a whole value.
    deep: u64,
    /// Schemas that are applied in place are visited again to find out what they have evaluated.
    reevaluates: bool,
}

/// Builds the graph of a document.
struct Builder<'a> {
    document: &'a Value,
    nodes: Vec<Node>,
    known: HashMap<*const Value, Id>,
    anchors: HashMap<&'a str, &'a Value>,
    patterns: BTreeSet<&'a str>,
    references: usize,
    /// Name of the keyword that gives a schema an identity.
    id_keyword: &'static str,
}

impl Graph {
    fn of(document: &Value) -> Result<Self, SchemaError> {
        check_depth(document, 0)?;
        let dialect = document.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let mut builder = Builder {
            document,
            nodes: Vec::new(),
            known: HashMap::new(),
            anchors: HashMap::new(),
            patterns: BTreeSet::new(),
            references: 0,
            id_keyword: if dialect.contains("draft-04") { "id" } else { "$id" },
        };
        builder.collect_anchors(document);
        builder.schema(document, "")?;
        let graph = Self { nodes: builder.nodes, patterns: builder.patterns.len() };
        graph.check_expansion()?;
        Ok(graph)
    }

    /// Rejects endless recursion, and too many schemas for one value.
    fn check_expansion(&self) -> Result<(), SchemaError> {
        let mut found: Vec<Expansion> = vec![Expansion::Unknown; self.nodes.len()];
        for id in 0..self.nodes.len() {
            let (weight, _) = self.expand(id, &mut found)?;
            if weight > MAX_EXPANDED {
                return Err(whole(format!(
                    "its references expand to more than {MAX_EXPANDED} schemas for one value; \
                     refer to less from allOf, anyOf, oneOf and the like"
                )));
            }
        }
        Ok(())
    }

    /// How many schemas apply to a value to which this one applies, and the length of the longest chain.
    fn expand(&self, id: Id, found: &mut [Expansion]) -> Result<(u64, usize), SchemaError> {
        match found.get(id) {
            Some(Expansion::Known { weight, chain }) => return Ok((*weight, *chain)),
            Some(Expansion::InProgress) => return Err(whole("it refers to itself without end")),
            _ => {}
        }
        if let Some(slot) = found.get_mut(id) {
            *slot = Expansion::InProgress;
        }
        let (mut weight, mut chain) = (1_u64, 0);
        for next in self.nodes.get(id).map_or(&[][..], |node| &node.in_place) {
            let (more, longer) = self.expand(*next, found)?;
            weight = weight.saturating_add(more);
            chain = chain.max(longer + 1);
        }
        if chain > MAX_CHAIN {
            return Err(whole(format!("its references lead through more than {MAX_CHAIN} schemas for one value")));
        }
        if let Some(slot) = found.get_mut(id) {
            *slot = Expansion::Known { weight, chain };
        }
        Ok((weight, chain))
    }

    /// Rejects a document whose check would take too long.
    fn check_work(&self, document: &Value) -> Result<(), SchemaError> {
        let mut count = Count { graph: self, pairs: 0, known: HashMap::new(), sizes: HashMap::new() };
        let work = count.work(0, document);
        if work.is_none_or(|work| work > MAX_WORK) {
            return Err(whole(
                "checking this document against it takes more work than is allowed; simplify the schema",
            ));
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Expansion {
    Unknown,
    InProgress,
    Known { weight: u64, chain: usize },
}

fn check_depth(value: &Value, depth: usize) -> Result<(), SchemaError> {
    if depth > MAX_DEPTH {
        return Err(whole(format!("it is nested more than {MAX_DEPTH} levels deep; refer to definitions instead")));
    }
    match value {
        Value::Object(members) => members.values().try_for_each(|value| check_depth(value, depth + 1)),
        Value::Array(items) => items.iter().try_for_each(|value| check_depth(value, depth + 1)),
        _ => Ok(()),
    }
}

/// Keywords whose value is a schema, or a list or map of schemas, and how it is applied.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
const IN_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
const EVERY_MEMBER: [&str; 2] = ["additionalProperties", "unevaluatedProperties"];
const EVERY_ITEM: [&str; 3] = ["additionalItems", "contains", "unevaluatedItems"];
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

impl<'a> Builder<'a> {
    fn collect_anchors(&mut self, value: &'a Value) {
        match value {
            Value::Object(members) => {
                for keyword in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = members.get(keyword).and_then(Value::as_str) {
                        self.anchors.entry(name).or_insert(value);
                    }
                }
                if let Some(name) =
                    members.get(self.id_keyword).and_then(Value::as_str).and_then(|id| id.strip_prefix('#'))
                {
                    self.anchors.entry(name).or_insert(value);
                }
                members.values().for_each(|value| self.collect_anchors(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.collect_anchors(value)),
            _ => {}
        }
    }

    fn schema(&mut self, schema: &'a Value, pointer: &str) -> Result<Id, SchemaError> {
        if let Some(id) = self.known.get(&std::ptr::from_ref(schema)) {
            return Ok(*id);
        }
        let id = self.nodes.len();
        if id >= MAX_SCHEMAS {
            return Err(whole(format!("it holds more than {MAX_SCHEMAS} schemas; make it smaller")));
        }
        self.nodes.push(Node { own: 1, ..Node::default() });
        self.known.insert(std::ptr::from_ref(schema), id);
        if let Value::Object(members) = schema {
            let node = self.node(members, pointer)?;
            if let Some(slot) = self.nodes.get_mut(id) {
                *slot = node;
            }
        }
        Ok(id)
    }

    fn node(&mut self, members: &'a Map<String, Value>, pointer: &str) -> Result<Node, SchemaError> {
        if !pointer.is_empty()
            && members.get(self.id_keyword).and_then(Value::as_str).is_some_and(|id| !id.starts_with('#'))
        {
            let message = format!("a schema inside of another must not have {:?}; take it out", self.id_keyword);
            return Err(at(pointer, message));
        }
        let mut node = Node { own: 1 + members.len() as u64, ..Node::default() };
        for (keyword, value) in members {
            let position = format!("{pointer}/{}", escape_pointer(keyword));
            let keyword = keyword.as_str();
            match value {
                Value::String(reference) if REFERENCES.contains(&keyword) => {
                    node.in_place.push(self.reference(reference, &position)?);
                }
                Value::String(pattern) if keyword == "pattern" => {
                    self.pattern(pattern, &position)?;
                    node.text_patterns += 1;
                }
                _ if IN_PLACE.contains(&keyword) => node.in_place.extend(self.schemas(value, &position)?),
                Value::Object(map) if IN_PLACE_MAPS.contains(&keyword) => {
                    node.in_place.extend(self.map(map, &position)?.into_iter().map(|(_, id)| id));
                }
                Value::Object(map) if keyword == "properties" => node.members.extend(self.map(map, &position)?),
                Value::Object(map) if keyword == "patternProperties" => {
                    for name in map.keys() {
                        self.pattern(name, &format!("{position}/{}", escape_pointer(name)))?;
                    }
                    node.name_patterns += map.len() as u64;
                    node.every_member.extend(self.map(map, &position)?.into_iter().map(|(_, id)| id));
                }
                _ if EVERY_MEMBER.contains(&keyword) => node.every_member.extend(self.schemas(value, &position)?),
                _ if keyword == "propertyNames" => node.names.extend(self.schemas(value, &position)?),
                Value::Array(_) if matches!(keyword, "prefixItems" | "items") => {
                    node.positions = self.schemas(value, &position)?;
                }
                _ if keyword == "items" || EVERY_ITEM.contains(&keyword) => {
                    node.every_item.extend(self.schemas(value, &position)?);
                }
                Value::Object(map) if DEFINITIONS.contains(&keyword) => {
                    self.map(map, &position)?;
                }
                Value::Array(values) if keyword == "enum" => {
                    node.own += values.iter().map(size).fold(0, u64::saturating_add);
                    node.deep += 1;
                }
                _ if keyword == "const" => {
                    node.own = node.own.saturating_add(size(value));
                    node.deep += 1;
                }
                Value::Bool(true) if keyword == "uniqueItems" => node.deep += 4,
                _ => {}
            }
            node.reevaluates |= matches!(keyword, "unevaluatedProperties" | "unevaluatedItems");
        }
        Ok(node)
    }

    /// One schema or a list of them. Other values are rejected when the schema is compiled.
    fn schemas(&mut self, value: &'a Value, pointer: &str) -> Result<Vec<Id>, SchemaError> {
        match value {
            Value::Array(schemas) => {
                let schemas = schemas.iter().enumerate();
                schemas.map(|(index, schema)| self.schema(schema, &format!("{pointer}/{index}"))).collect()
            }
            schema => Ok(vec![self.schema(schema, pointer)?]),
        }
    }

    fn map(&mut self, map: &'a Map<String, Value>, pointer: &str) -> Result<Vec<(String, Id)>, SchemaError> {
        let schemas = map.iter().filter(|(_, value)| value.is_object() || value.is_boolean());
        schemas
            .map(|(name, schema)| {
                let id = self.schema(schema, &format!("{pointer}/{}", escape_pointer(name)))?;
                Ok((name.clone(), id))
            })
            .collect()
    }

    fn pattern(&mut self, pattern: &'a str, pointer: &str) -> Result<(), SchemaError> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(at(pointer, format!("the pattern is longer than {MAX_PATTERN_BYTES} bytes; make it shorter")));
        }
        self.patterns.insert(pattern);
        if self.patterns.len() > MAX_PATTERNS {
            return Err(at(pointer, format!("the schema has more than {MAX_PATTERNS} different patterns; use fewer")));
        }
        Ok(())
    }

    /// The target of a reference.
    fn reference(&mut self, reference: &'a str, pointer: &str) -> Result<Id, SchemaError> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(at(pointer, format!("the schema has more than {MAX_REFERENCES} references; use fewer")));
        }
        let unknown = || {
            let shown: String = reference.chars().take(100).collect();
            at(
                pointer,
                format!(
                    "refers to {shown:?}; only references inside of the schema, like \"#/$defs/name\", are followed"
                ),
            )
        };
        let fragment = reference.strip_prefix('#').ok_or_else(unknown)?;
        let fragment = percent_encoding::percent_decode_str(fragment).decode_utf8().map_err(|_| unknown())?;
        let target = match fragment.as_ref() {
            "" => Some(self.document),
            path if path.starts_with('/') => self.document.pointer(path),
            anchor => self.anchors.get(anchor).copied(),
        };
        let target = target.ok_or_else(unknown)?;
        // The position of an anchor is not known, but it is not the root.
        let position = if fragment.starts_with('/') || fragment.is_empty() { fragment.as_ref() } else { reference };
        self.schema(target, position)
    }
}

/// Values and bytes of text below and including a value, as units of work.
fn size(value: &Value) -> u64 {
    match value {
        Value::Object(members) => {
            members.iter().fold(1, |sum, (name, value)| size(value).saturating_add(sum).saturating_add(text(name)))
        }
        Value::Array(items) => items.iter().fold(1, |sum, item| size(item).saturating_add(sum)),
        Value::String(string) => 1 + text(string),
        _ => 1,
    }
}

/// Units of work to read a text once.
fn text(text: &str) -> u64 {
    text.len() as u64 / 16
}

/// Units of work to match a text with this many patterns.
fn matching(text: &str, patterns: u64) -> u64 {
    patterns.saturating_mul(8 + text.len() as u64 * 4)
}

/// Counts the work of one check, up to the limit.
struct Count<'a> {
    graph: &'a Graph,
    pairs: u64,
    known: HashMap<(Id, *const Value), u64>,
    sizes: HashMap<*const Value, u64>,
}

impl Count<'_> {
    /// Units of work to check a value with a schema; None if counting alone takes too long.
    fn work(&mut self, id: Id, value: &Value) -> Option<u64> {
        self.pairs += 1;
        if self.pairs > MAX_PAIRS || self.known.len() > MAX_CACHED {
            return None;
        }
        let container = matches!(value, Value::Object(_) | Value::Array(_));
        let key = (id, std::ptr::from_ref(value));
        if container && let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let graph = self.graph;
        let node = graph.nodes.get(id)?;
        let mut work = node.own;
        let mut add = |more: u64| work = work.saturating_add(more);
        for next in &node.in_place {
            let more = self.work(*next, value)?;
            add(if node.reevaluates { more.saturating_mul(3) } else { more });
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    add(1 + matching(name, node.name_patterns));
                    for next in &node.names {
                        add(self.work_of_text(*next, name)?);
                    }
                    for next in node.members.get(name).into_iter().chain(&node.every_member) {
                        add(self.work(*next, member)?);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    add(1);
                    for next in node.positions.get(index).into_iter().chain(&node.every_item) {
                        add(self.work(*next, item)?);
                    }
                }
            }
            Value::String(string) => add(text(string) + matching(string, node.text_patterns)),
            _ => {}
        }
        if node.deep > 0 {
            add(node.deep.saturating_mul(self.size(value)));
        }
        if container {
            self.known.insert(key, work);
        }
        Some(work)
    }

    /// The same for the name of a member.
    fn work_of_text(&mut self, id: Id, name: &str) -> Option<u64> {
        self.pairs += 1;
        if self.pairs > MAX_PAIRS {
            return None;
        }
        let graph = self.graph;
        let node = graph.nodes.get(id)?;
        let own = node.own + node.deep + text(name) + matching(name, node.text_patterns);
        node.in_place.iter().try_fold(own, |sum, next| Some(self.work_of_text(*next, name)?.saturating_add(sum)))
    }

    fn size(&mut self, value: &Value) -> u64 {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return size(value);
        }
        *self.sizes.entry(std::ptr::from_ref(value)).or_insert_with(|| size(value))
    }
}

#[cfg(test)]
#[path = "bounded_tests.rs"]
mod tests;
