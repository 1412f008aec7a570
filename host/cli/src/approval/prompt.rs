//! The dialog about one approval. A state machine: keys go in, and what to show and to do comes out.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::super::format;
use super::super::output::{BAD, BOLD, DIM, paint};
use super::super::terminal::{FooterText, Key, LineEditor, LineOutcome, wrap};
use super::form::{self, Field};
use super::render::{self, Look};
use super::{answers, edit};
use ostler_protocol::methods::AnswerApprovalParams;
use ostler_protocol::{Approval, ApprovalKind, ApprovalQuestion};

/// A user who was typing when the dialog appeared means something else. Keys count after a pause this long.
const TYPING_PAUSE: Duration = Duration::from_millis(700);

/// Rows of a text that is being typed.
const EDITOR_ROWS: usize = 6;

/// A dialog.
#[derive(Debug)]
pub(crate) struct Prompt {
    approval: Approval,
    stage: Stage,
    /// The fields of a form.
    form: Vec<Field>,
    /// The input as the user has edited it, although it could not be used.
    edited: Option<String>,
    /// What was wrong with the last answer.
    problem: Option<String>,
    /// When the last key was typed that was meant for something else.
    typing: Option<Instant>,
    /// Text to print above the dialog.
    output: String,
}

#[derive(Debug)]
enum Stage {
    /// Waits for a key.
    Choice,
    /// The reason of a denial is typed.
    Reason(LineEditor),
    /// The question with this index is answered.
    Question { index: usize, editor: LineEditor, answers: Vec<Vec<String>>, values: Vec<Option<Value>> },
    /// The answer is on its way.
    Sending,
}

/// What to do after a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PromptAction {
    Nothing,
    /// Send this answer.
    Send(Box<AnswerApprovalParams>),
    /// Run the editor on this text, and call [`Prompt::edited`].
    Edit(String),
}

impl Prompt {
    /// A dialog. `typing`: the user is typing something else at this moment.
    pub(crate) fn new(approval: Approval, look: Look, typing: Option<Instant>) -> Self {
        let form = match (approval.kind, &approval.input) {
            (ApprovalKind::Elicitation, Some(schema)) => form::fields(schema).unwrap_or_default(),
            _ => Vec::new(),
        };
        let output = render::panel(&approval, look);
        let mut prompt = Self { approval, stage: Stage::Choice, form, edited: None, problem: None, typing, output };
        if prompt.approval.kind == ApprovalKind::Question && !prompt.approval.questions.is_empty() {
            prompt.begin_questions(look);
        }
        prompt
    }

    pub(crate) const fn approval(&self) -> &Approval {
        &self.approval
    }

    /// Whether a text is being typed.
    pub(crate) const fn is_typing(&self) -> bool {
        matches!(self.stage, Stage::Reason(_) | Stage::Question { .. })
    }

    /// Removes and returns the text to print above the dialog.
    pub(crate) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }

    /// Processes a key.
    pub(crate) fn key(&mut self, key: &Key, look: Look, now: Instant) -> PromptAction {
        if let Some(typing) = self.typing {
            if now.saturating_duration_since(typing) < TYPING_PAUSE {
                self.typing = Some(now);
                return PromptAction::Nothing;
            }
            self.typing = None;
        }
        match &mut self.stage {
            Stage::Sending => PromptAction::Nothing,
            Stage::Choice => self.choose(key, look),
            Stage::Reason(editor) => match editor.key(key) {
                LineOutcome::Edited => PromptAction::Nothing,
                LineOutcome::Entered(text) => {
                    let message = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
                    self.send(AnswerApprovalParams { message, ..self.answer(false) })
                }
                LineOutcome::EndOfInput | LineOutcome::Left => {
                    self.stage = Stage::Choice;
                    PromptAction::Nothing
                }
            },
            Stage::Question { editor, .. } => match editor.key(key) {
                LineOutcome::Edited => PromptAction::Nothing,
                LineOutcome::Entered(text) => self.entered(&text, look),
                LineOutcome::EndOfInput | LineOutcome::Left => {
                    self.stage = Stage::Choice;
                    self.problem = None;
                    PromptAction::Nothing
                }
            },
        }
    }

    fn choose(&mut self, key: &Key, look: Look) -> PromptAction {
        let key = match key {
            Key::Enter if self.approval.deny_by_default => 'n',
            Key::Char(character) => character.to_ascii_lowercase(),
            _ => return PromptAction::Nothing,
        };
        let asks = self.asks();
        match key {
            'a' | 'y' if asks && self.has_questions() => {
                self.begin_questions(look);
                PromptAction::Nothing
            }
            'y' if !asks => self.send(self.answer(true)),
            'n' => {
                self.stage = Stage::Reason(LineEditor::default());
                PromptAction::Nothing
            }
            's' => self.send(AnswerApprovalParams { stop_turn: true, ..self.answer(false) }),
            'e' if self.can_edit() => PromptAction::Edit(self.text_to_edit()),
            'd' => {
                self.output.push_str(&render::panel(&self.approval, Look { whole: true, ..look }));
                PromptAction::Nothing
            }
            _ => PromptAction::Nothing,
        }
    }

    /// Whether it asks for information instead of permission.
    fn asks(&self) -> bool {
        matches!(self.approval.kind, ApprovalKind::Question | ApprovalKind::Elicitation)
    }

    fn has_questions(&self) -> bool {
        !self.questions().is_empty()
    }

    fn can_edit(&self) -> bool {
        self.approval.editable && self.approval.input.is_some() || self.approval.kind == ApprovalKind::Elicitation
    }

    fn questions(&self) -> Vec<&ApprovalQuestion> {
        match self.approval.kind {
            ApprovalKind::Elicitation => self.form.iter().map(|field| &field.question).collect(),
            _ => self.approval.questions.iter().collect(),
        }
    }

    fn begin_questions(&mut self, look: Look) {
        self.ask(0, Vec::new(), Vec::new(), look);
    }

    fn ask(&mut self, index: usize, answers: Vec<Vec<String>>, values: Vec<Option<Value>>, look: Look) {
        let questions = self.questions();
        let count = questions.len();
        let Some(question) = questions.get(index) else { return };
        let text = render::question(question, (count > 1).then_some((index + 1, count)), look);
        let editor = if question.secret { LineEditor::secret() } else { LineEditor::default() };
        self.output.push_str(&text);
        self.stage = Stage::Question { index, editor, answers, values };
        self.problem = None;
    }

    /// Takes the answer to the current question.
    fn entered(&mut self, text: &str, look: Look) -> PromptAction {
        let Stage::Question { index, .. } = &self.stage else { return PromptAction::Nothing };
        let index = *index;
        let (answer, value, secret) = if let Some(field) = self.form.get(index) {
            match field.value(text) {
                Ok(value) => (vec![text.trim().to_owned()], value, field.question.secret),
                Err(problem) => return self.report(problem),
            }
        } else {
            let Some(question) = self.approval.questions.get(index) else { return PromptAction::Nothing };
            match answers::of_text(question, text) {
                Ok(answer) => (answer, None, question.secret),
                Err(problem) => return self.report(problem),
            }
        };
        let shown = if secret { "(not shown)".to_owned() } else { super::super::clean::line(&answer.join(", ")) };
        self.output.push_str(&paint(look.color, DIM, &format!("answer: {shown}")));
        self.output.push('\n');
        let Stage::Question { answers, values, .. } = std::mem::replace(&mut self.stage, Stage::Choice) else {
            return PromptAction::Nothing;
        };
        let (mut answers, mut values) = (answers, values);
        answers.push(answer);
        values.push(value);
        if index + 1 < self.questions().len() {
            self.ask(index + 1, answers, values, look);
            return PromptAction::Nothing;
        }
        self.send(match self.approval.kind {
            ApprovalKind::Elicitation => {
                AnswerApprovalParams { input: Some(form::content(&self.form, &values)), ..self.answer(true) }
            }
            _ => AnswerApprovalParams {
                allow: None,
                answers: Some(answers::collect(&self.approval.questions, &answers)),
                ..self.answer(true)
            },
        })
    }

    fn report(&mut self, problem: String) -> PromptAction {
        self.problem = Some(problem);
        PromptAction::Nothing
    }

    fn text_to_edit(&self) -> String {
        let input = match self.approval.kind {
            ApprovalKind::Elicitation => self.approval.input.as_ref().map(form::template),
            _ => self.approval.input.clone(),
        };
        let text = || format!("{:#}\n", input.unwrap_or_default());
        self.edited.clone().unwrap_or_else(text)
    }

    /// Takes the text that the user has edited.
    pub(crate) fn edited(&mut self, before: &str, text: String) -> PromptAction {
        if text == before && self.edited.is_none() {
            return self.report("nothing was changed, and nothing was sent".to_owned());
        }
        match edit::parse(&text) {
            Ok(input) => {
                self.edited = Some(text);
                self.send(AnswerApprovalParams { input: Some(input), ..self.answer(true) })
            }
            Err(problem) => {
                self.edited = Some(text);
                self.report(problem)
            }
        }
    }

    /// The host has rejected the answer, and the approval is still open.
    pub(crate) fn rejected(&mut self, problem: String) {
        self.stage = Stage::Choice;
        self.problem = Some(problem);
    }

    fn answer(&self, allow: bool) -> AnswerApprovalParams {
        AnswerApprovalParams {
            run_id: self.approval.run_id,
            request_id: self.approval.id,
            allow: Some(allow),
            message: None,
            input: None,
            answers: None,
            stop_turn: false,
        }
    }

    fn send(&mut self, answer: AnswerApprovalParams) -> PromptAction {
        self.stage = Stage::Sending;
        self.problem = None;
        PromptAction::Send(Box::new(answer))
    }

    /// The lines of the dialog. `others`: number of further open approvals.
    pub(crate) fn footer(&self, look: Look, now: Timestamp, others: usize) -> FooterText {
        let mut rows = Vec::new();
        if let Some(problem) = &self.problem {
            let problem = super::super::clean::line(problem);
            rows.extend(wrap(&problem, look.width).into_iter().map(|line| paint(look.color, BAD, &line)));
        }
        let cursor = match &self.stage {
            Stage::Sending => {
                rows.push(paint(look.color, DIM, "sending the answer…"));
                None
            }
            Stage::Choice => {
                let (plain, painted) = self.choices(look, now, others);
                let start = rows.len();
                let lines = packed(&plain, &painted, look.width);
                rows.extend(lines);
                Some((start, 0))
            }
            Stage::Reason(editor) => {
                let hint = "reason for the agent (Enter: none, Esc: back)";
                rows.extend(wrap(hint, look.width).into_iter().map(|line| paint(look.color, DIM, &line)));
                Some(editor_rows(editor, look, &mut rows))
            }
            Stage::Question { index, editor, .. } => {
                let hint = self.questions().get(*index).map(|question| question_hint(question)).unwrap_or_default();
                let left = format::between(now, self.approval.expires_at);
                let hint = format!("{hint} (Esc: other keys) · {left} left");
                rows.extend(wrap(&hint, look.width).into_iter().map(|line| paint(look.color, DIM, &line)));
                Some(editor_rows(editor, look, &mut rows))
            }
        };
        FooterText { rows, cursor }
    }

    /// The keys of the first stage, plain and painted.
    fn choices(&self, look: Look, now: Timestamp, others: usize) -> (Vec<String>, Vec<String>) {
        let denies = self.approval.deny_by_default;
        let (head, no) = if self.asks() { ("Answer?", "decline") } else { ("Allow?", "no") };
        let mut keys: Vec<(&str, String)> = Vec::new();
        if self.asks() {
            if self.has_questions() {
                keys.push(("a", "answer".to_owned()));
            }
        } else {
            keys.push(("y", "yes".to_owned()));
        }
        keys.push((if denies { "n or Enter" } else { "n" }, no.to_owned()));
        if self.can_edit() {
            keys.push(("e", "edit".to_owned()));
        }
        keys.push(("s", format!("{no}, and stop the turn")));
        keys.push(("d", "details".to_owned()));
        let mut plain = vec![head.to_owned()];
        let mut painted = vec![paint(look.color, BOLD, head)];
        for (key, meaning) in &keys {
            plain.push(format!("{key} {meaning}"));
            painted.push(format!("{} {meaning}", paint(look.color, BOLD, key)));
        }
        let mut notes = vec![format!("{} left", format::between(now, self.approval.expires_at))];
        if others > 0 {
            notes.push(format!("{others} more"));
        }
        if self.typing.is_some() {
            notes.push("keys count when you stop typing".to_owned());
        }
        for note in notes {
            painted.push(paint(look.color, DIM, &note));
            plain.push(note);
        }
        (plain, painted)
    }
}

fn question_hint(question: &ApprovalQuestion) -> String {
    match (question.options.len(), question.secret, question.multi_select) {
        (_, true, _) => "a secret: what you type is not shown".to_owned(),
        (0, ..) => "your answer".to_owned(),
        (count, _, true) => format!("numbers from 1 to {count} with commas, or a text"),
        (count, ..) => format!("1 to {count}, or a text"),
    }
}

/// Appends the rows of a text that is being typed. Returns the cursor.
fn editor_rows(editor: &LineEditor, look: Look, rows: &mut Vec<String>) -> (usize, usize) {
    let view = editor.view(look.width.saturating_sub(2), EDITOR_ROWS);
    let start = rows.len();
    for (index, row) in view.rows.iter().enumerate() {
        let lead = if index == 0 && view.hidden.0 == 0 { "> " } else { "  " };
        rows.push(format!("{lead}{row}"));
    }
    (start + view.cursor.0, view.cursor.1 + 2)
}

/// Puts pieces on lines of at most `width` columns, separated by dots. `plain` are the same pieces without colors.
fn packed(plain: &[String], painted: &[String], width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    let mut used = 0;
    for (index, (plain, painted)) in plain.iter().zip(painted).enumerate() {
        let columns = unicode_width::UnicodeWidthStr::width(plain.as_str());
        // No dot after the heading.
        let separator = if index == 1 { "  " } else { " · " };
        match rows.last_mut() {
            Some(row) if used + separator.chars().count() + columns <= width => {
                row.push_str(separator);
                row.push_str(painted);
                used += separator.chars().count() + columns;
            }
            _ if columns <= width => {
                rows.push(painted.clone());
                used = columns;
            }
            _ => {
                rows.extend(wrap(plain, width));
                used = width;
            }
        }
    }
    rows
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
