//! The encodings in which texts and values are wrapped.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub fn base64_url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Everything but letters and digits.
pub fn percent(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The inside of a JSON string.
pub fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The inside of a JSON string from an encoder that escapes HTML.
pub fn json_for_html(text: &str) -> String {
    json(text).replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// The same from an encoder that also escapes for scripts.
pub fn json_for_scripts(text: &str) -> String {
    json_for_html(text).replace('=', "\\u003d").replace('\'', "\\u0027")
}

/// The inside of a JSON string as PHP writes it.
pub fn json_of_php(text: &str) -> String {
    json(text).replace('/', "\\/")
}

/// The inside of a Python string literal.
pub fn python(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\'', "\\'").replace('\u{1b}', "\\x1b")
}

/// Text in XML or HTML.
pub fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
