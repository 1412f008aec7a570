//! Checks of JSON documents that come from outside: against the schemas of the API's own types, and against schemas that
//! callers and plugins bring.
//!
//! A schema from outside is code in disguise: references, patterns and combinations can make a validator work for hours.
//! [`BoundedSchema`] therefore limits what a schema may consist of before it is compiled, and how long a check may take.
//! Schemas of the API's own types are compiled once for each type; [`validate_document`] reports all problems of a document
//! at once, each with its JSON pointer, and never repeats a value, because a value may be a secret.

mod bounded;
mod document;

pub use bounded::{BoundedSchema, SchemaError, unexpected_members};
pub use document::{unknown_nulls, validate_document};
