//! Walks the syntax tree of a script.

use std::collections::BTreeSet;
use std::rc::Rc;

use rable::{ListOperator, Node, NodeKind};

use super::state::{Folders, State, Stdin};
use super::words::{self, Choice, Quoting, Stripped};
use super::{Analysis, Unclear, limits};
use crate::act::{Access, Act};
use crate::command;
use crate::paths::Workspace;
use crate::text::DYNAMIC;

/// Scripts inside scripts.
const MAX_DEPTH: usize = 12;

/// Calls of functions inside functions.
const MAX_CALLS: usize = 6;

/// Combinations of values with which one command is looked at.
const MAX_COMBINATIONS: usize = 16;

/// Follows a script.
pub(crate) struct Walker<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) state: State,
    acts: Vec<Act>,
    unclear: BTreeSet<Unclear>,
    /// Steps that are left: nodes, words and scripts.
    budget: usize,
    depth: usize,
    calls: usize,
}

/// A redirection of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redirection {
    pub(crate) access: Access,
    pub(crate) target: String,
}

impl<'a> Walker<'a> {
    pub(super) fn new(workspace: &'a Workspace, folder: &str, budget: usize) -> Self {
        let state = State::new(folder);
        Self { workspace, state, acts: Vec::new(), unclear: BTreeSet::new(), budget, depth: 0, calls: 0 }
    }

    pub(super) fn into_analysis(self) -> Analysis {
        Analysis { acts: self.acts, unclear: self.unclear.into_iter().collect() }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    pub(crate) fn add(&mut self, act: Act) {
        if self.spend(1 + act.paths.len()) {
            self.acts.push(act);
        }
    }

    pub(crate) fn unknown(&mut self, what: impl Into<String>) {
        self.unclear.insert(Unclear::Unknown(what.into()));
    }

    /// Takes steps from the budget; false if there are none left.
    pub(crate) fn spend(&mut self, steps: usize) -> bool {
        match self.budget.checked_sub(steps) {
            Some(left) => self.budget = left,
            None => {
                self.budget = 0;
                self.unclear.insert(Unclear::TooComplex("it does too much at once".to_owned()));
            }
        }
        self.budget > 0
    }

    /// A script in the current shell.
    pub(crate) fn script(&mut self, script: &str) {
        if let Some(reason) = limits::refuse(script) {
            self.unclear.insert(Unclear::TooComplex(reason));
            return;
        }
        if self.depth >= MAX_DEPTH {
            self.unclear.insert(Unclear::TooComplex(format!("it runs scripts {MAX_DEPTH} levels deep")));
            return;
        }
        if !self.spend(10 + script.len() / 64) {
            return;
        }
        self.depth += 1;
        match rable::parse(script, false) {
            Ok(nodes) => nodes.iter().for_each(|node| self.branch(node)),
            Err(error) => _ = self.unclear.insert(Unclear::Unparsable(error.message().to_owned())),
        }
        self.depth -= 1;
    }

    /// A script in a shell of its own: nothing that it sets has an effect later.
    pub(crate) fn subshell(&mut self, script: &str) {
        let state = self.state.clone();
        self.script(script);
        self.state = state;
    }

    /// A script in another shell, with this standard input.
    pub(crate) fn shell(&mut self, script: &str, stdin: Stdin) {
        let state = self.state.clone();
        self.state.stdin = stdin;
        self.state.functions.clear();
        self.script(script);
        self.state = state;
    }

    fn node(&mut self, node: &Node) {
        if !self.spend(1) {
            return;
        }
        match &node.kind {
            NodeKind::Command { assignments, words, redirects } => self.simple(assignments, words, redirects),
            NodeKind::Pipeline { commands, .. } => self.pipeline(commands),
            NodeKind::List { .. } => {
                let mut start = self.state.clone();
                for (command, operator) in commands_of(node) {
                    self.node(command);
                    match operator {
                        // What follows only runs if this has succeeded.
                        Some(ListOperator::And) => continue,
                        Some(ListOperator::Background) => self.state = start,
                        // A `cd` may have failed.
                        _ => self.state.folders.add(&start.folders),
                    }
                    start = self.state.clone();
                }
            }
            NodeKind::If { condition, then_body, else_body, redirects } => {
                self.compound(redirects, |walker| {
                    walker.node(condition);
                    let failed = walker.state.folders.clone();
                    walker.branch(then_body);
                    if let Some(body) = else_body {
                        walker.state.folders.add(&failed);
                        walker.branch(body);
                    }
                });
            }
            NodeKind::While { condition, body, redirects } | NodeKind::Until { condition, body, redirects } => {
                self.compound(redirects, |walker| {
                    walker.repeat(|walker| {
                        walker.node(condition);
                        walker.node(body);
                    });
                });
            }
            NodeKind::For { var, words, body, redirects } | NodeKind::Select { var, words, body, redirects } => {
                self.compound(redirects, |walker| {
                    let words = words.as_deref().unwrap_or_default();
                    let fields: Vec<String> = words.iter().flat_map(|word| walker.fields(word)).collect();
                    if fields.is_empty() {
                        walker.state.assign(var, DYNAMIC.to_string());
                    }
                    for field in fields {
                        walker.state.assign(var, field);
                    }
                    walker.repeat(|walker| walker.node(body));
                });
            }
            NodeKind::ForArith { init, cond, incr, body, redirects } => {
                self.compound(redirects, |walker| {
                    [init, cond, incr].iter().for_each(|text| walker.text(text));
                    walker.repeat(|walker| walker.node(body));
                });
            }
            NodeKind::Case { word, patterns, redirects } => {
                self.compound(redirects, |walker| {
                    walker.fields(word);
                    for pattern in patterns {
                        for word in &pattern.patterns {
                            walker.fields(word);
                        }
                        if let Some(body) = &pattern.body {
                            walker.branch(body);
                        }
                    }
                });
            }
            NodeKind::Function { name, body } => {
                self.state.functions.insert(name.clone(), Rc::new((**body).clone()));
                // It may be called in ways that are not seen.
                let state = self.state.clone();
                self.node(body);
                self.state.folders = state.folders;
            }
            NodeKind::Subshell { body, redirects } => {
                let state = self.state.clone();
                self.compound(redirects, |walker| walker.node(body));
                self.state = state;
            }
            NodeKind::BraceGroup { body, redirects } => self.compound(redirects, |walker| walker.node(body)),
            NodeKind::Coproc { command, .. } => self.node(command),
            NodeKind::Negation { pipeline } | NodeKind::Time { pipeline, .. } => self.node(pipeline),
            NodeKind::ArithmeticCommand { raw_content, redirects, .. } => {
                self.compound(redirects, |walker| {
                    walker.text(raw_content);
                    if let Some(script) = words::not_arithmetic(raw_content) {
                        walker.subshell(&script);
                    }
                });
            }
            NodeKind::ConditionalExpr { body, redirects } => self.compound(redirects, |walker| walker.condition(body)),
            NodeKind::Empty | NodeKind::Comment { .. } => {}
            _ => _ = self.unclear.insert(Unclear::Unparsable("it has a part that is not known".to_owned())),
        }
    }

    /// What may be run or not.
    fn branch(&mut self, node: &Node) {
        let before = self.state.folders.clone();
        self.node(node);
        self.state.folders.add(&before);
    }

    /// What may be run any number of times. What one pass changes, the next one sees.
    fn repeat(&mut self, body: impl Fn(&mut Self)) {
        let (folders, values) = (self.state.folders.clone(), self.state.values.clone());
        body(self);
        self.state.folders.add(&folders);
        if self.state.folders != folders {
            // A relative `cd` leads elsewhere each time.
            self.state.folders.insert(DYNAMIC.to_string());
        }
        if self.state.folders != folders || self.state.values != values {
            body(self);
        }
        self.state.folders.add(&folders);
    }

    /// A compound command with redirections, which also holds for the standard input of the commands in it.
    fn compound(&mut self, redirects: &[Node], body: impl FnOnce(&mut Self)) {
        let stdin = self.state.stdin.clone();
        let (redirections, own) = self.redirections(redirects);
        if let Some(own) = own {
            self.state.stdin = own;
        }
        if !redirections.is_empty() {
            command::redirect(self, &redirections);
        }
        body(self);
        self.state.stdin = stdin;
    }

    fn pipeline(&mut self, commands: &[Node]) {
        let state = self.state.clone();
        for (index, node) in commands.iter().enumerate() {
            if let Some(before) = index.checked_sub(1) {
                self.state.stdin = self.output_of(&commands[before]).map_or(Stdin::Unknown, Stdin::Text);
            }
            // Each command of a pipeline has a shell of its own, except the last one in some shells.
            self.node(node);
            self.state.folders = state.folders.clone();
        }
        self.state.stdin = state.stdin;
    }

    /// What a command prints, if it is certain: an `echo` of literals, or a `cat` of a here-document.
    fn output_of(&mut self, node: &Node) -> Option<String> {
        let NodeKind::Command { words, redirects, .. } = &node.kind else { return None };
        let mut fields: Vec<String> = Vec::new();
        for word in words {
            let NodeKind::Word { value, parts, .. } = &word.kind else { return None };
            let stripped = words::strip(value, parts, Quoting::Word);
            fields.extend(words::expand(&stripped.raw, &self.state.values, &Choice::new()));
        }
        let (program, arguments) = fields.split_first()?;
        match (program.rsplit('/').next().unwrap_or_default(), redirects.as_slice()) {
            ("echo", []) => {
                let text = arguments.iter().filter(|argument| !matches!(argument.as_str(), "-n" | "-e" | "-E"));
                Some(text.cloned().collect::<Vec<_>>().join(" ").replace("\\n", "\n"))
            }
            // The arguments of a format are put into it; each by itself is looked at, too.
            ("printf", []) => Some(arguments.join("\n").replace("\\n", "\n").replace("%s", "")),
            ("cat", [redirect]) if arguments.is_empty() => match self.redirections(std::slice::from_ref(redirect)).1? {
                Stdin::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
        .filter(|text| !text.contains(DYNAMIC))
    }

    /// A condition in `[[ … ]]`.
    fn condition(&mut self, node: &Node) {
        match &node.kind {
            NodeKind::CondTerm { value, .. } => self.raw(value, &[]),
            NodeKind::UnaryTest { operand, .. } | NodeKind::CondNot { operand } => self.condition(operand),
            NodeKind::CondParen { inner } => self.condition(inner),
            NodeKind::BinaryTest { left, right, .. }
            | NodeKind::CondAnd { left, right }
            | NodeKind::CondOr { left, right } => {
                self.condition(left);
                self.condition(right);
            }
            NodeKind::Word { value, parts, .. } => self.raw(value, parts),
            NodeKind::Empty => {}
            _ => _ = self.unclear.insert(Unclear::Unparsable("it has a condition that is not known".to_owned())),
        }
    }

    fn simple(&mut self, assignments: &[Node], words: &[Node], redirects: &[Node]) {
        for assignment in assignments {
            let Some(raw) = self.strip(assignment) else { continue };
            self.assignment(&raw);
        }
        let raw: Vec<Stripped> = words.iter().filter_map(|word| self.stripped(word)).collect();
        let (redirections, stdin) = self.redirections(redirects);
        let stdin = stdin.unwrap_or_else(|| self.state.stdin.clone());
        if raw.is_empty() {
            if !redirections.is_empty() {
                command::redirect(self, &redirections);
            }
            return;
        }
        let before = self.state.clone();
        let mut after: Option<Folders> = None;
        for choice in self.combinations(raw.iter().map(|word| word.raw.as_str())) {
            self.state.folders = before.folders.clone();
            let fields: Vec<String> =
                raw.iter().flat_map(|word| words::expand(&word.raw, &self.state.values, &choice)).collect();
            if !self.spend(fields.len()) {
                return;
            }
            command::run(self, &fields, &redirections, &stdin);
            match &mut after {
                Some(after) => after.add(&self.state.folders),
                None => after = Some(self.state.folders.clone()),
            }
        }
        if let Some(after) = after {
            self.state.folders = after;
        }
    }

    /// Notes an assignment `NAME=VALUE`.
    fn assignment(&mut self, raw: &str) {
        let Some((name, value)) = raw.split_once('=') else { return };
        let appends = name.ends_with('+');
        let name = name.trim_end_matches('+').split('[').next().unwrap_or_default();
        let list = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
        let value = if appends {
            DYNAMIC.to_string()
        } else {
            // The words of a list are separated by blanks; as one word, they would be joined.
            let value = list.map_or_else(|| value.to_owned(), |list| list.replace(['\n', '\t'], " "));
            let words = if list.is_some() { value.split(' ').collect() } else { vec![value.as_str()] };
            let choice = self.combinations(words.iter().copied()).pop().unwrap_or_default();
            let fields: Vec<String> =
                words.iter().flat_map(|word| words::expand(word, &self.state.values, &choice)).collect();
            fields.join(" ")
        };
        self.state.assign(name, value);
    }

    /// Notes an assignment by a command such as `export NAME=VALUE`.
    pub(crate) fn assign_field(&mut self, field: &str) {
        if let Some((name, value)) = field.split_once('=') {
            self.state.assign(name.trim_end_matches('+'), value.to_owned());
        }
    }

    /// Every combination of the values that the variables in these words may have.
    fn combinations<'w>(&self, raw: impl Iterator<Item = &'w str>) -> Vec<Choice> {
        let mut combinations = vec![Choice::new()];
        let names: BTreeSet<&str> = raw.flat_map(words::variables).collect();
        for name in names {
            let count = self.state.values.get(name).map_or(0, Vec::len);
            if count < 2 {
                continue;
            }
            if combinations.len() * count > MAX_COMBINATIONS {
                // Then the variable counts as unknown.
                continue;
            }
            combinations = combinations
                .into_iter()
                .flat_map(|choice| {
                    (0..count).map(move |index| {
                        let mut choice = choice.clone();
                        choice.insert(name.to_owned(), index);
                        choice
                    })
                })
                .collect();
        }
        combinations
    }

    /// The redirections to files, and the standard input, if one is set.
    fn redirections(&mut self, redirects: &[Node]) -> (Vec<Redirection>, Option<Stdin>) {
        let (mut redirections, mut stdin) = (Vec::new(), None);
        for redirect in redirects {
            match &redirect.kind {
                NodeKind::HereDoc { content, quoted, .. } => {
                    if !quoted {
                        self.text(content);
                    }
                    stdin = Some(Stdin::Text(content.clone()));
                }
                NodeKind::Redirect { op, target, fd, .. } => {
                    let fields = self.fields(target);
                    let target = fields.join(" ");
                    let is_descriptor =
                        target == "-" || target.trim_end_matches('-').bytes().all(|b| b.is_ascii_digit());
                    match op.as_str() {
                        "<<<" => stdin = Some(Stdin::Text(target)),
                        ">&" | "<&" if is_descriptor => {}
                        "<" | "<&" => {
                            if *fd <= 0 {
                                // A file, or the output of a process substitution.
                                stdin =
                                    Some(if target == DYNAMIC.to_string() { Stdin::Unknown } else { Stdin::Inherited });
                            }
                            redirections.push(Redirection { access: Access::Read, target });
                        }
                        _ => redirections.push(Redirection { access: Access::Write, target }),
                    }
                }
                _ => {}
            }
        }
        (redirections, stdin)
    }

    /// The words that a word expands to, with any of the values of its variables.
    fn fields(&mut self, word: &Node) -> Vec<String> {
        let Some(raw) = self.strip(word) else { return Vec::new() };
        let mut fields: Vec<String> = Vec::new();
        for choice in self.combinations(Some(raw.as_str()).into_iter()) {
            for field in words::expand(&raw, &self.state.values, &choice) {
                if !fields.contains(&field) {
                    fields.push(field);
                }
            }
        }
        self.spend(fields.len());
        fields
    }

    fn strip(&mut self, word: &Node) -> Option<String> {
        self.stripped(word).map(|word| word.raw)
    }

    /// The raw text of a word. The substitutions in it are followed.
    fn stripped(&mut self, word: &Node) -> Option<Stripped> {
        let NodeKind::Word { value, parts, .. } = &word.kind else { return None };
        let stripped = words::strip(value, parts, Quoting::Word);
        self.follow(&stripped);
        Some(stripped)
    }

    fn raw(&mut self, text: &str, parts: &[Node]) {
        let stripped = words::strip(text, parts, Quoting::Word);
        self.follow(&stripped);
    }

    /// A text in which the shell expands substitutions: a here-document, an arithmetic expression.
    fn text(&mut self, text: &str) {
        let stripped = words::strip(text, &[], Quoting::Text);
        self.follow(&stripped);
    }

    fn follow(&mut self, stripped: &Stripped) {
        if stripped.unclear {
            self.unclear.insert(Unclear::Unparsable("the end of a substitution is not clear".to_owned()));
        }
        for script in &stripped.scripts {
            self.subshell(script);
        }
    }

    /// Calls a function of the script; false if there is none of this name.
    pub(crate) fn call(&mut self, name: &str) -> bool {
        let Some(body) = self.state.functions.get(name).cloned() else { return false };
        if self.calls < MAX_CALLS {
            self.calls += 1;
            self.node(&body);
            self.calls -= 1;
        }
        true
    }
}

/// The commands of a list with the operators behind them. The parser nests lists in lists, one level for each command.
fn commands_of(list: &Node) -> Vec<(&Node, Option<ListOperator>)> {
    let mut commands = Vec::new();
    let mut todo = vec![(list, None)];
    while let Some((node, operator)) = todo.pop() {
        match &node.kind {
            NodeKind::List { items } => {
                let last = items.len().saturating_sub(1);
                let items = items.iter().enumerate();
                // The operator behind the list is the one behind its last command.
                let items = items.map(|(index, item)| {
                    (&item.command, if index == last { item.operator.or(operator) } else { item.operator })
                });
                todo.extend(items.rev());
            }
            _ => commands.push((node, operator)),
        }
    }
    commands
}
