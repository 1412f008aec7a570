//! Names to which later versions may add values. A program reads unknown ones as [`Other`](crate::WarningCode::Other).

/// Defines an enumeration of names with a variant for unknown ones. Spellings of earlier versions, after `|`, are still
/// read.
macro_rules! open_names {
    ($(#[$doc:meta])* $name:ident {
        $($(#[doc = $vdoc:literal])+ $variant:ident = $text:literal $(| $old:literal)*,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $vdoc])+ $variant,)+
            /// A name that this version does not know.
            Other(String),
        }

        impl $name {
            /// Every known value with its name and meaning, in the order of its definition.
            pub const KNOWN: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$variant, $text, concat!($($vdoc),+)),)+];

            /// The name on the wire and in the database.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match name {
                    $($text $(| $old)* => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(&*std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let meanings: serde_json::Map<String, serde_json::Value> = Self::KNOWN
                    .iter()
                    .map(|(_, name, meaning)| ((*name).to_owned(), meaning.trim_start().into()))
                    .collect();
                schemars::json_schema!({
                    "type": "string",
                    "examples": [$($text),+],
                    "x-enumDescriptions": meanings,
                })
            }
        }
    };
}
pub(crate) use open_names;
