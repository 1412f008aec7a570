//! The form of a rule in the tables of this crate.

use ostler_plugin::redactor::{Block, Rule};

/// One row of a table. [`token`], [`shape`] and [`named`] create it, and its methods change it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    id: &'static str,
    what: &'static str,
    pattern: String,
    keywords: Vec<&'static str>,
    groups: Vec<u32>,
    whole_word: bool,
    min_entropy: Option<f32>,
    max_length: u32,
    block: Option<Block>,
    decoded: bool,
    verify: bool,
}

/// A token that is recognized by its prefix. The whole match is the secret.
pub(crate) fn token(id: &'static str, what: &'static str, pattern: &str, keywords: &[&'static str]) -> Spec {
    Spec {
        id,
        what,
        pattern: pattern.to_owned(),
        keywords: keywords.to_vec(),
        groups: Vec::new(),
        whole_word: true,
        min_entropy: None,
        max_length: 512,
        block: None,
        decoded: true,
        verify: false,
    }
}

/// A secret that is recognized by its context. The first group is the secret.
pub(crate) fn shape(id: &'static str, what: &'static str, pattern: &str, keywords: &[&'static str]) -> Spec {
    Spec { groups: vec![1], whole_word: false, ..token(id, what, pattern, keywords) }
}

/// A value that is recognized by its name. `name` is matched without regard to case, must begin with one of `keywords`, and
/// may be a part of a longer name. `value` is the pattern of the value.
pub(crate) fn named(id: &'static str, what: &'static str, name: &str, keywords: &[&'static str], value: &str) -> Spec {
    const COLOUR: &str = r"(?:(?:\x1b|\\{1,3}(?:u001[bB]|x1[bB]|033|e))\[[0-9;]{0,12}m){0,2}";
    const QUOTE: &str = r#"(?:[\\"'`\])*]|&(?:quot|apos|#34|#39);)"#;
    // An operator, or the second half of a pair: `name="TOKEN" value="…"`.
    let pattern = format!(
        r#"(?i:{name})[ \t\w.\-]{{0,32}}{QUOTE}{{0,8}}{COLOUR}[ \t]{{0,8}}(?:(?:string[ \t]{{0,4}})?(?:=>|:=|[=:>,(|]|\|\||[ \t]|,?[ \t]{{0,4}}(?:\\{{1,3}}n[ \t+\-]{{0,24}})?{QUOTE}{{0,8}}[vV]alue{QUOTE}{{0,8}}[ \t]{{0,4}}[:=])(?:<(?:value|string)>)?|</[A-Za-z]{{1,12}}><[A-Za-z]{{1,12}}>)(?:[\s=(]|{QUOTE}){{0,8}}{COLOUR}(?:[A-Za-z0-9_.]{{1,40}},[ \t]?[\\"']{{0,2}})?({value})(?:[^\w=+/\-]|$)"#
    );
    shape(id, what, &pattern, keywords)
}

impl Spec {
    /// The groups that contain the secret; the default is the first.
    pub(crate) fn groups(mut self, groups: &[u32]) -> Self {
        self.groups = groups.to_vec();
        self
    }

    /// Maximum length of a match in bytes; the default is 512.
    pub(crate) fn up_to(mut self, bytes: u32) -> Self {
        self.max_length = bytes;
        self
    }

    /// Minimum entropy, for tokens with a prefix that is not specific.
    pub(crate) fn entropy(mut self, bits: f32) -> Self {
        self.min_entropy = Some(bits);
        self
    }

    /// Each match is checked by [`crate::judge`].
    pub(crate) fn judged(mut self) -> Self {
        self.verify = true;
        self
    }

    /// The lines that follow.
    pub(crate) fn block(mut self, body: &str, end: &str, max_lines: u32) -> Self {
        self.block = Some(Block { body: body.to_owned(), end: end.to_owned(), max_lines });
        self
    }

    /// A match may begin inside a word.
    pub(crate) fn inside_words(mut self) -> Self {
        self.whole_word = false;
        self
    }

    pub(crate) fn id(&self) -> &'static str {
        self.id
    }

    pub(crate) fn into_rule(self) -> Rule {
        // The tables use `\w` and `\s` for brevity. As ASCII sets they compile to a hundredth of the size.
        let pattern = self.pattern.replace(r"\w", "A-Za-z0-9_").replace(r"\s", r" \t\r\n");
        Rule {
            id: self.id.to_owned(),
            description: self.what.to_owned(),
            pattern,
            secret_groups: self.groups,
            keywords: self.keywords.into_iter().map(str::to_owned).collect(),
            whole_word: self.whole_word,
            min_entropy: self.min_entropy,
            max_length: self.max_length,
            block: self.block,
            decoded: self.decoded,
            verify: self.verify,
            extra: None,
        }
    }
}
