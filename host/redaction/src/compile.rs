//! Compiles declared rules to one matcher.

use std::collections::HashMap;
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
use super::text::{MAX_NAME, PLACEHOLDER, ZERO_WIDTH, kebab};

/// The longest match that a rule may declare, in bytes; limits how much a stream holds back.
pub(super) const MAX_MATCH: u32 = 16 * 1024;
/// Largest compiled form of one pattern, in bytes.
const PATTERN_SIZE: usize = 4 << 20;
/// Memory for the lazily built automaton of one pattern, in bytes.
const CACHE_SIZE: usize = 128 << 10;
/// Compiled forms of all patterns of one plugin, or of the operator, in bytes.
const SOURCE_SIZE: usize = 64 << 20;
/// Compiled forms of all patterns, in bytes.
const ALL_SIZE: usize = 256 << 20;
/// Most rules in all.
const MAX_RULES: usize = 4096;
/// Most rules of one plugin, or of the operator.
const MAX_SOURCE_RULES: usize = 1000;
/// Most exceptions of one plugin, or of the operator.
const MAX_SOURCE_ALLOWS: usize = 1000;
/// Most keywords of one rule.
const MAX_KEYWORDS: usize = 256;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 64 << 10;
/// Text of all keywords of one plugin, or of the operator, in bytes.
const SOURCE_KEYWORDS: usize = 256 << 10;
/// Names of rules in all exceptions of one plugin, or of the operator.
const SOURCE_ALLOWED_NAMES: usize = 20_000;
/// Text of all patterns of one plugin, or of the operator, in bytes.
const SOURCE_TEXT: usize = 1 << 20;
/// Where operator rules come from, in messages.
const OPERATOR: &str = "redaction";

/// All rules of all plugins, ready to match. Immutable; share it behind an `Arc`.
pub struct Redactor {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) plugins: Vec<CompiledPlugin>,
    /// Finds every keyword in one pass.
    pub(super) literals: Literals,
    /// The meanings of each literal of `literals`.
    pub(super) targets: Vec<Vec<Target>>,
    /// Rules without keywords.
    pub(super) everywhere: Vec<u32>,
    /// How much text must be held back for rules whose matches may start long before their keyword.
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

/// The meaning of a literal that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A match of the rule may start `offset` bytes earlier.
    Begins { rule: u32, offset: u32 },
    /// A match of the rule may be around it.
    Around { rule: u32 },
    /// An escaped character, which is decoded.
    Escape,
    /// An invisible character, perhaps inside a secret.
    Invisible,
    /// A percent-encoded character.
    Percent,
    /// Possibly one of our own placeholders.
    Placeholder,
}

/// How a pattern is tried.
pub(super) enum Finder {
    /// From fixed positions. `captures` is set if the secret is only a part of the match.
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
    /// Index of the plugin that verifies candidates.
    pub(super) verify: Option<usize>,
    pub(super) allow: Vec<(AllowTarget, Arc<Regex>)>,
}

impl CompiledRule {
    /// Whether text after a match affects the decision about it.
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

/// All errors of the rules.
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
        if builder.begin(OPERATOR, &operator.rules, &operator.allow) {
            for rule in &operator.rules {
                builder.add(OPERATOR, None, rule);
            }
        }
        for (index, plugin) in plugins.iter().enumerate() {
            let first = builder.rules.len();
            let of_operator = builder.room;
            if builder.begin(&plugin.name, &plugin.rules.rules, &plugin.rules.allow) {
                for rule in &plugin.rules.rules {
                    builder.add(&plugin.name, Some(index), rule);
                }
                for (nth, allow) in plugin.rules.allow.iter().enumerate() {
                    builder.allow(&plugin.name, nth, allow, first);
                }
            }
            builder.room = of_operator;
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

    /// A redactor for the case that no rules are available: all text except white space is replaced by
    /// `[REDACTED:withheld]`; in the host's own messages ([`Unscanned::ByRules`](super::Unscanned)), only words that
    /// are not ordinary.
    pub fn withholding() -> Self {
        let mut redactor = Builder::default().finish(Vec::new()).unwrap_or_else(|_| unreachable_empty());
        redactor.withhold = true;
        redactor
    }

    /// Names of all rules, in order of precedence.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// Runs `work` with working memory that is reused by the next call.
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
    /// The remaining memory for compiled patterns of the current source; None once it was exceeded, which is reported
    /// once.
    room: Option<usize>,
    /// Bytes of all compiled patterns so far.
    used: usize,
    literals: Vec<String>,
    /// Index in `literals`.
    known: HashMap<String, usize>,
    targets: Vec<Vec<Target>>,
    everywhere: Vec<u32>,
    lookback: usize,
    errors: Vec<CompileError>,
}

impl Builder {
    fn error(&mut self, source: &str, subject: String, message: impl Into<String>) {
        self.errors.push(CompileError { source_name: source.to_owned(), subject, message: message.into() });
    }

    /// Starts a source and sets its memory limit. False, with an error, if the source exceeds a limit.
    fn begin(&mut self, source: &str, rules: &[Rule], allow: &[Allow]) -> bool {
        self.room = Some(SOURCE_SIZE);
        let blocks =
            rules.iter().filter_map(|rule| rule.block.as_ref()).map(|block| block.body.len() + block.end.len());
        let text = rules
            .iter()
            .map(|rule| rule.pattern.len())
            .chain(blocks)
            .chain(allow.iter().map(|allow| allow.pattern.len()));
        let keywords = rules.iter().flat_map(|rule| &rule.keywords).map(String::len);
        let problem = if rules.len() > MAX_SOURCE_RULES {
            format!("there are {} rules, where {MAX_SOURCE_RULES} are allowed", rules.len())
        } else if allow.len() > MAX_SOURCE_ALLOWS {
            format!("there are {} allow entries, where {MAX_SOURCE_ALLOWS} are allowed", allow.len())
        } else if text.sum::<usize>() > SOURCE_TEXT {
            format!("its patterns together are longer than {SOURCE_TEXT} bytes")
        } else if keywords.sum::<usize>() > SOURCE_KEYWORDS {
            format!("its keywords together are longer than {SOURCE_KEYWORDS} bytes")
        } else if allow.iter().map(|allow| allow.rules.len()).sum::<usize>() > SOURCE_ALLOWED_NAMES {
            format!("its allow entries name more than {SOURCE_ALLOWED_NAMES} rules in all")
        } else {
            return true;
        };
        self.room = None;
        self.error(source, "rules".to_owned(), problem);
        false
    }

    /// Compiles a pattern within the remaining memory and subtracts its size. The error is that of this pattern; None
    /// if the memory limit was exceeded, which is reported before.
    fn within<T>(
        &mut self,
        source: &str,
        compile: impl FnOnce(usize) -> Result<T, PatternError>,
        size: impl FnOnce(&T) -> usize,
    ) -> Result<T, Option<String>> {
        let Some(left) = self.room else { return Err(None) };
        let left_of_all = ALL_SIZE.saturating_sub(self.used);
        let most = PATTERN_SIZE.min(left).min(left_of_all);
        let compiled = compile(most);
        let needed = match &compiled {
            Ok(compiled) => size(compiled),
            // A failed compilation takes as much time as a successful one.
            Err(PatternError::TooLarge) => PATTERN_SIZE,
            Err(PatternError::Other(_)) => 0,
        };
        self.used += if compiled.is_ok() { needed } else { 0 };
        let exceeded = needed > left || (needed >= most && most < PATTERN_SIZE);
        self.room = Some(left.saturating_sub(needed)).filter(|_| !exceeded);
        if exceeded {
            let limit = if left_of_all < left { ALL_SIZE } else { SOURCE_SIZE };
            let message = format!(
                "its patterns compile to more than {} MiB in all; use smaller repetitions or fewer rules",
                limit >> 20
            );
            self.error(source, "rules".to_owned(), message);
            return Err(None);
        }
        compiled.map_err(|error| match error {
            PatternError::TooLarge => {
                Some(format!("the pattern compiles to more than {PATTERN_SIZE} bytes; use smaller repetitions"))
            }
            PatternError::Other(message) => Some(message),
        })
    }

    fn search_regex(&mut self, source: &str, pattern: &str) -> Result<Regex, Option<String>> {
        self.within(source, |most| search_regex(pattern, most), Regex::memory_usage)
    }

    fn add(&mut self, source: &str, plugin: Option<usize>, rule: &Rule) {
        if self.room.is_none() {
            return;
        }
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
        if rule.keywords.len() > MAX_KEYWORDS {
            return self.error(source, subject("keywords"), format!("there are more than {MAX_KEYWORDS}"));
        }
        if rule.pattern.len() > MAX_PATTERN {
            return self.error(source, subject("pattern"), format!("is longer than {MAX_PATTERN} bytes"));
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
        let finder = match self.finder(source, rule, &hir, index) {
            Ok(finder) => finder,
            Err(Some(error)) => return self.error(source, subject("pattern"), error),
            Err(None) => return,
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
        let mut compile = |field: &str, pattern: &str| match self.search_regex(source, &format!("^(?:{pattern})$")) {
            Ok(regex) => Some(regex),
            Err(error) => {
                if let Some(error) = error {
                    self.error(source, format!("rule `{}`, block.{field}", id.escape_debug()), error);
                }
                None
            }
        };
        let (body, end) = (compile("body", &block.body), compile("end", &block.end));
        Some(CompiledBlock { body: body?, end: end?, max_lines: block.max_lines })
    }

    /// Decides how the pattern is tried, and adds its keywords.
    fn finder(&mut self, source: &str, rule: &Rule, hir: &Hir, index: u32) -> Result<Finder, Option<String>> {
        let keywords: Vec<String> = rule.keywords.iter().map(|keyword| keyword.to_ascii_lowercase()).collect();
        if keywords.is_empty() {
            self.everywhere.push(index);
            self.lookback = self.lookback.max(rule.max_length as usize);
            return self.search_regex(source, &rule.pattern).map(Finder::Search);
        }
        if let Some(offsets) = keyword_offsets(hir, &keywords)
            && let Ok(dfa) =
                self.within(source, |most| anchored_dfa(&rule.pattern, most), |dfa| dfa.get_nfa().memory_usage())
        {
            for (keyword, offset) in offsets {
                if let Some(keyword) = keywords.get(keyword) {
                    self.enter(keyword, Target::Begins { rule: index, offset: offset as u32 });
                }
            }
            // Unicode word boundaries are the only thing that the automaton cannot decide, in text that is not ASCII.
            let undecided = hir.properties().look_set().contains_word_unicode();
            let captures = if rule.secret_groups.is_empty() && !undecided {
                None
            } else {
                Some(self.within(source, |most| capture_regex(&rule.pattern, most), Regex::memory_usage)?)
            };
            return Ok(Finder::Anchored { dfa: Box::new(dfa), captures });
        }
        if crosses_breakers(hir) || keywords.iter().any(|keyword| keyword.bytes().any(is_breaker)) {
            self.lookback = self.lookback.max(rule.max_length as usize);
        }
        for keyword in &keywords {
            self.enter(keyword, Target::Around { rule: index });
        }
        self.search_regex(source, &rule.pattern).map(Finder::Search)
    }

    fn enter(&mut self, literal: &str, target: Target) {
        match self.known.get(literal).and_then(|index| self.targets.get_mut(*index)) {
            Some(targets) => {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
            None => {
                self.known.insert(literal.to_owned(), self.literals.len());
                self.literals.push(literal.to_owned());
                self.targets.push(vec![target]);
            }
        }
    }

    /// Adds an exception to its rules, among those from index `first` on.
    fn allow(&mut self, source: &str, index: usize, allow: &Allow, first: usize) {
        if self.room.is_none() {
            return;
        }
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
        let regex = match self.search_regex(source, &allow.pattern) {
            Ok(regex) => Arc::new(regex),
            Err(Some(error)) => return self.error(source, format!("{subject}, pattern"), error),
            Err(None) => return,
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
        self.enter("\x1b[", Target::Invisible);
        for mark in ZERO_WIDTH {
            self.enter(mark, Target::Invisible);
        }
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

/// Why one pattern does not compile.
enum PatternError {
    TooLarge,
    Other(String),
}

fn automata_error(error: &regex_automata::meta::BuildError) -> PatternError {
    match error.size_limit() {
        Some(_) => PatternError::TooLarge,
        None => PatternError::Other(error.syntax_error().map_or_else(|| one_line(error), one_line)),
    }
}

fn search_regex(pattern: &str, most: usize) -> Result<Regex, PatternError> {
    let config = Regex::config()
        .nfa_size_limit(Some(most))
        .onepass_size_limit(Some(CACHE_SIZE))
        .hybrid_cache_capacity(CACHE_SIZE)
        .dfa(false);
    Regex::builder().configure(config).build(pattern).map_err(|error| automata_error(&error))
}

/// A regex to read the groups of a known match.
fn capture_regex(pattern: &str, most: usize) -> Result<Regex, PatternError> {
    let config = Regex::config()
        .nfa_size_limit(Some(most))
        .onepass_size_limit(Some(CACHE_SIZE))
        .auto_prefilter(false)
        .hybrid(false)
        .dfa(false);
    Regex::builder().configure(config).build(pattern).map_err(|error| automata_error(&error))
}

/// An automaton for anchored searches. A failure is not an error of the pattern: then it is tried in another way.
fn anchored_dfa(pattern: &str, most: usize) -> Result<DFA, PatternError> {
    DFA::builder()
        .configure(DFA::config().cache_capacity(CACHE_SIZE).skip_cache_capacity_check(true).unicode_word_boundary(true))
        .syntax(syntax::Config::new())
        .thompson(thompson::Config::new().nfa_size_limit(Some(most)))
        .build(pattern)
        .map_err(|_| PatternError::Other(String::new()))
}
