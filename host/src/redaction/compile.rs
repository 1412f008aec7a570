//! From declared rules to one matcher.

use std::sync::{Arc, Mutex, PoisonError};

use regex_automata::hybrid::dfa::DFA;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_syntax::hir::Hir;

use super::literals::Literals;
use super::matcher::Scratch;
use super::rules::{Allow, AllowTarget, Block, OperatorRules, PluginRules, RedactorPlugin, Rule};
use super::syntax::{crosses_breakers, is_breaker, keyword_offsets};
use super::text::{MAX_NAME, PLACEHOLDER, kebab};

/// Longest match that a rule may ask for, in bytes; bounds what a stream holds back.
pub(super) const MAX_MATCH: u32 = 16 * 1024;
/// Largest compiled form of one pattern, in bytes.
const PATTERN_SIZE: usize = 4 << 20;
/// Memory for the lazily built automaton of one pattern, in bytes.
const CACHE_SIZE: usize = 128 << 10;
/// Most rules and exceptions in all.
const MAX_RULES: usize = 4096;
/// Where operator rules come from, in messages.
const OPERATOR: &str = "redaction";

/// All rules of all plugins, ready to match. Immutable; share it behind an `Arc`.
pub struct Redactor {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) plugins: Vec<CompiledPlugin>,
    /// Finds every keyword in one pass.
    pub(super) literals: Literals,
    /// What each literal of `literals` stands for.
    pub(super) targets: Vec<Vec<Target>>,
    /// Rules without keywords.
    pub(super) everywhere: Vec<u32>,
    /// How far back text must be held for rules whose matches may begin long before their keyword.
    pub(super) lookback: usize,
    /// Whether any plugin wants to `scan`.
    pub(super) scans: bool,
    pub(super) withhold: bool,
    scratch: Mutex<Vec<Scratch>>,
}

pub(super) struct CompiledPlugin {
    pub(super) name: String,
    pub(super) plugin: Arc<dyn RedactorPlugin>,
    pub(super) scan_overlap: Option<usize>,
}

/// What a literal means where it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A match of the rule may begin `offset` bytes earlier.
    Begins { rule: u32, offset: u32 },
    /// A match of the rule may lie around it.
    Around { rule: u32 },
    /// An escaped character, worth undoing.
    Escape,
    /// A percent-encoded character.
    Percent,
    /// One of our own placeholders, perhaps.
    Placeholder,
}

/// How a pattern is tried.
pub(super) enum Finder {
    /// From fixed places. `captures` is there if the secret is less than the match.
    Anchored { dfa: Box<DFA>, captures: Option<Regex> },
    /// Searched for in a stretch of text.
    Search(Regex),
}

pub(super) struct CompiledRule {
    pub(super) id: String,
    pub(super) finder: Finder,
    pub(super) groups: Vec<usize>,
    pub(super) whole_word: bool,
    pub(super) min_entropy: Option<f32>,
    pub(super) max_length: usize,
    pub(super) block: Option<CompiledBlock>,
    pub(super) decoded: bool,
    /// Index of the plugin to ask about candidates.
    pub(super) verify: Option<usize>,
    pub(super) allow: Vec<(AllowTarget, Arc<Regex>)>,
}

impl CompiledRule {
    /// Whether text after a match takes part in the decision about it.
    pub(super) fn needs_context(&self) -> bool {
        self.verify.is_some() || self.allow.iter().any(|(target, _)| *target == AllowTarget::Line)
    }
}

pub(super) struct CompiledBlock {
    pub(super) body: Regex,
    pub(super) end: Regex,
    pub(super) max_lines: u32,
}

/// One rule or exception that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {subject}: {message}")]
pub struct CompileError {
    /// Plugin, or `redaction` for the operator's own rules.
    pub source_name: String,
    /// Which rule or exception and which field: ``rule `x`, pattern``.
    pub subject: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that is wrong with the rules, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to compile the redaction rules: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct CompileErrors(pub Vec<CompileError>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor")
            .field("rules", &self.rules.len())
            .field("withhold", &self.withhold)
            .finish_non_exhaustive()
    }
}

impl Redactor {
    /// Compiles the rules of all plugins and of the operator into one matcher.
    ///
    /// # Errors
    /// Every rule or exception that cannot be used, with its plugin's name and its own.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers make the rules for this call and have no use for them after it"
    )]
    pub fn compile(plugins: Vec<PluginRules>, operator: OperatorRules) -> Result<Self, CompileErrors> {
        let mut builder = Builder::default();
        for rule in &operator.rules {
            builder.add(OPERATOR, None, rule);
        }
        for (index, plugin) in plugins.iter().enumerate() {
            let first = builder.rules.len();
            for rule in &plugin.rules.rules {
                builder.add(&plugin.name, Some(index), rule);
            }
            for (nth, allow) in plugin.rules.allow.iter().enumerate() {
                builder.allow(&plugin.name, nth, allow, first);
            }
        }
        for (index, allow) in operator.allow.iter().enumerate() {
            builder.allow(OPERATOR, index, allow, 0);
        }
        let plugins = plugins
            .into_iter()
            .map(|plugin| CompiledPlugin {
                name: plugin.name,
                plugin: plugin.plugin,
                scan_overlap: plugin.rules.scan_overlap.map(|bytes| bytes.min(MAX_MATCH) as usize),
            })
            .collect();
        builder.finish(plugins)
    }

    /// A redactor for when no rules can be had: all text but white space is replaced by `[REDACTED:withheld]`.
    pub fn withholding() -> Self {
        let mut redactor = Builder::default().finish(Vec::new()).unwrap_or_else(|_| unreachable_empty());
        redactor.withhold = true;
        redactor
    }

    /// Names of all rules, in order of precedence.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// Runs `work` with working memory that is kept for the next call.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self
            .scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| Scratch::new(self.rules.len()));
        let result = work(&mut scratch);
        scratch.clear();
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }
}

#[derive(Default)]
struct Builder {
    rules: Vec<CompiledRule>,
    literals: Vec<String>,
    targets: Vec<Vec<Target>>,
    everywhere: Vec<u32>,
    lookback: usize,
    errors: Vec<CompileError>,
}

impl Builder {
    fn error(&mut self, source: &str, subject: String, message: impl Into<String>) {
        self.errors.push(CompileError { source_name: source.to_owned(), subject, message: message.into() });
    }

    fn add(&mut self, source: &str, plugin: Option<usize>, rule: &Rule) {
        let subject = |field: &str| format!("rule `{}`, {field}", rule.id.escape_debug());
        if rule.id.is_empty() || rule.id.len() > MAX_NAME || kebab(&rule.id) != rule.id {
            self.error(source, subject("id"), "use lower-case letters, digits and single hyphens, at most 64");
        }
        if rule.max_length == 0 || rule.max_length > MAX_MATCH {
            self.error(
                source,
                subject("max-length"),
                format!("must be from 1 to {MAX_MATCH} bytes, not {}", rule.max_length),
            );
        }
        if rule.min_entropy.is_some_and(|bits| !(0.0..=8.0).contains(&bits)) {
            self.error(source, subject("min-entropy"), "must be from 0 to 8 bits per character");
        }
        for keyword in rule.keywords.iter().filter(|k| k.len() < 2 || k.len() > 64) {
            self.error(
                source,
                subject("keywords"),
                format!("`{}` must have from 2 to 64 bytes", keyword.escape_debug()),
            );
        }
        if self.rules.len() >= MAX_RULES {
            self.error(source, subject("id"), format!("there are more than {MAX_RULES} rules in all"));
            return;
        }
        let hir = match regex_syntax::parse(&rule.pattern) {
            Ok(hir) => hir,
            Err(error) => return self.error(source, subject("pattern"), one_line(&error)),
        };
        if hir.properties().minimum_len().is_none_or(|shortest| shortest == 0) {
            self.error(source, subject("pattern"), "must not match the empty text");
            return;
        }
        let groups = hir.properties().explicit_captures_len();
        for group in rule.secret_groups.iter().filter(|group| **group as usize > groups) {
            self.error(source, subject("secret-groups"), format!("the pattern has no group {group}"));
        }
        let block = rule.block.as_ref().and_then(|block| self.block(source, &rule.id, block));
        let index = self.rules.len() as u32;
        let finder = match self.finder(rule, &hir, index) {
            Ok(finder) => finder,
            Err(error) => return self.error(source, subject("pattern"), error),
        };
        self.rules.push(CompiledRule {
            id: rule.id.clone(),
            finder,
            groups: rule.secret_groups.iter().map(|group| *group as usize).collect(),
            whole_word: rule.whole_word,
            min_entropy: rule.min_entropy,
            max_length: rule.max_length as usize,
            block,
            decoded: rule.decoded,
            verify: plugin.filter(|_| rule.verify),
            allow: Vec::new(),
        });
    }

    fn block(&mut self, source: &str, id: &str, block: &Block) -> Option<CompiledBlock> {
        let mut compile = |field: &str, pattern: &str| match search_regex(&format!("^(?:{pattern})$")) {
            Ok(regex) => Some(regex),
            Err(error) => {
                self.errors.push(CompileError {
                    source_name: source.to_owned(),
                    subject: format!("rule `{}`, block.{field}", id.escape_debug()),
                    message: error,
                });
                None
            }
        };
        let (body, end) = (compile("body", &block.body), compile("end", &block.end));
        Some(CompiledBlock { body: body?, end: end?, max_lines: block.max_lines })
    }

    /// Decides how the pattern is tried and enters its keywords.
    fn finder(&mut self, rule: &Rule, hir: &Hir, index: u32) -> Result<Finder, String> {
        let keywords: Vec<String> = rule.keywords.iter().map(|keyword| keyword.to_ascii_lowercase()).collect();
        if keywords.is_empty() {
            self.everywhere.push(index);
            self.lookback = self.lookback.max(rule.max_length as usize);
            return search_regex(&rule.pattern).map(Finder::Search);
        }
        if let Some(offsets) = keyword_offsets(hir, &keywords)
            && let Ok(dfa) = anchored_dfa(&rule.pattern)
        {
            for (keyword, offset) in offsets {
                if let Some(keyword) = keywords.get(keyword) {
                    self.enter(keyword, Target::Begins { rule: index, offset: offset as u32 });
                }
            }
            // Unicode word boundaries are the one thing that the automaton leaves undecided, where the text is not ASCII.
            let undecided = hir.properties().look_set().contains_word_unicode();
            let captures =
                if rule.secret_groups.is_empty() && !undecided { None } else { Some(capture_regex(&rule.pattern)?) };
            return Ok(Finder::Anchored { dfa: Box::new(dfa), captures });
        }
        if crosses_breakers(hir) || keywords.iter().any(|keyword| keyword.bytes().any(is_breaker)) {
            self.lookback = self.lookback.max(rule.max_length as usize);
        }
        for keyword in &keywords {
            self.enter(keyword, Target::Around { rule: index });
        }
        search_regex(&rule.pattern).map(Finder::Search)
    }

    fn enter(&mut self, literal: &str, target: Target) {
        match self.literals.iter().position(|known| known == literal).and_then(|index| self.targets.get_mut(index)) {
            Some(targets) => {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
            None => {
                self.literals.push(literal.to_owned());
                self.targets.push(vec![target]);
            }
        }
    }

    /// Hands an exception to its rules, among those from index `first` on.
    fn allow(&mut self, source: &str, index: usize, allow: &Allow, first: usize) {
        let subject = format!("allow entry {}", index + 1);
        for unknown in allow
            .rules
            .iter()
            .filter(|id| !self.rules.iter().skip(first).any(|rule| rule.id == **id))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.error(source, format!("{subject}, rules"), format!("there is no rule `{}`", unknown.escape_debug()));
        }
        let regex = match search_regex(&allow.pattern) {
            Ok(regex) => Arc::new(regex),
            Err(error) => return self.error(source, format!("{subject}, pattern"), error),
        };
        for rule in self.rules.iter_mut().skip(first) {
            if allow.rules.is_empty() || allow.rules.contains(&rule.id) {
                rule.allow.push((allow.target, Arc::clone(&regex)));
            }
        }
    }

    fn finish(mut self, plugins: Vec<CompiledPlugin>) -> Result<Redactor, CompileErrors> {
        self.enter(&PLACEHOLDER.to_ascii_lowercase(), Target::Placeholder);
        self.enter("\\u00", Target::Escape);
        self.enter("\\/", Target::Escape);
        for high in ["%2", "%3", "%4", "%5", "%6", "%7"] {
            self.enter(high, Target::Percent);
        }
        let literals = match Literals::new(&self.literals) {
            Ok(literals) => Some(literals),
            Err(error) => {
                self.error(OPERATOR, "keywords of all rules".to_owned(), one_line(&error));
                None
            }
        };
        match literals {
            Some(literals) if self.errors.is_empty() => Ok(Redactor {
                rules: self.rules,
                scans: plugins.iter().any(|plugin| plugin.scan_overlap.is_some()),
                plugins,
                literals,
                targets: self.targets,
                everywhere: self.everywhere,
                lookback: self.lookback,
                withhold: false,
                scratch: Mutex::default(),
            }),
            _ => Err(CompileErrors(self.errors)),
        }
    }
}

fn unreachable_empty() -> Redactor {
    unreachable!("a redactor without rules always compiles")
}

/// The last line of a message: regex errors draw the pattern first.
fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

fn automata_error(error: &regex_automata::meta::BuildError) -> String {
    match error.size_limit() {
        Some(limit) => format!("the pattern compiles to more than {limit} bytes; use smaller repetitions"),
        None => error.syntax_error().map_or_else(|| one_line(error), one_line),
    }
}

fn search_regex(pattern: &str) -> Result<Regex, String> {
    let config = Regex::config()
        .nfa_size_limit(Some(PATTERN_SIZE))
        .onepass_size_limit(Some(CACHE_SIZE))
        .hybrid_cache_capacity(CACHE_SIZE)
        .dfa(false);
    Regex::builder().configure(config).build(pattern).map_err(|error| automata_error(&error))
}

/// For reading groups out of a match that is known to be there.
fn capture_regex(pattern: &str) -> Result<Regex, String> {
    let config = Regex::config()
        .nfa_size_limit(Some(PATTERN_SIZE))
        .onepass_size_limit(Some(CACHE_SIZE))
        .auto_prefilter(false)
        .hybrid(false)
        .dfa(false);
    Regex::builder().configure(config).build(pattern).map_err(|error| automata_error(&error))
}

fn anchored_dfa(pattern: &str) -> Result<DFA, ()> {
    DFA::builder()
        .configure(DFA::config().cache_capacity(CACHE_SIZE).skip_cache_capacity_check(true).unicode_word_boundary(true))
        .syntax(syntax::Config::new())
        .thompson(thompson::Config::new().nfa_size_limit(Some(PATTERN_SIZE)))
        .build(pattern)
        .map_err(|_| ())
}
