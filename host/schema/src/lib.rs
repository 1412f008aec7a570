//! Checks of JSON documents that come from outside: against the schemas of the API's own types, and against schemas
//! from callers and plugins.
//!
//! A schema from outside is as powerful as code: references, patterns and combinations can make a validator work for
//! hours. Therefore [`BoundedSchema`] limits the content of a schema before it is compiled, and the work of a check.
//! Schemas of the API's own types are compiled once for each type; [`validate_document`] reports all problems of a
//! document at once, each with its JSON pointer, and never repeats a value, because a value may be a secret.

mod bounded;
mod document;

pub use bounded::{BoundedSchema, SchemaError, unexpected_members};
pub use document::{unknown_nulls, validate_document};
