//! Values that the host itself knows to be secret.

use std::fmt;

/// Shortest value that is masked, in bytes; anything shorter would redact ordinary words.
pub const MIN_KNOWN_LENGTH: usize = 6;

/// A value that must not appear, and the name that its placeholder bears.
#[derive(Clone)]
pub struct KnownSecret {
    /// Stands in the placeholder; brought to kebab form. Empty gives `known-value`.
    pub name: String,
    /// The value as it is.
    pub value: String,
}

impl fmt::Debug for KnownSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Known secrets in all their encodings, compiled once for each run.
#[derive(Default)]
pub struct Masks {
    values: Vec<KnownSecret>,
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").finish_non_exhaustive()
    }
}

impl Masks {
    /// Compiles `values`; those shorter than [`MIN_KNOWN_LENGTH`] are passed over.
    pub fn new(values: impl IntoIterator<Item = KnownSecret>) -> Self {
        Self { values: values.into_iter().filter(|known| known.value.len() >= MIN_KNOWN_LENGTH).collect() }
    }

    /// No known values.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
