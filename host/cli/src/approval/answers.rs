//! Reads answers to the questions of an agent.

use ostler_protocol::{Answers, ApprovalQuestion};

/// An answer of the command line that has to be read from elsewhere.
const FROM_INPUT: &str = "-";

/// The answer that a text means: numbers and labels of options, else the text itself.
///
/// # Errors
/// What is wrong with it.
pub(super) fn of_text(question: &ApprovalQuestion, text: &str) -> Result<Vec<String>, String> {
    if question.secret {
        return if text.is_empty() { Err("an answer is needed".to_owned()) } else { Ok(vec![text.to_owned()]) };
    }
    let text = text.trim();
    if text.is_empty() {
        return Err("an answer is needed".to_owned());
    }
    if let Some(label) = label(question, text) {
        return Ok(vec![label]);
    }
    let count = question.options.len();
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers: Vec<&str> = text.split([',', ' ']).filter(|part| !part.is_empty()).collect();
    if count > 0 && !numbers.is_empty() && numbers.iter().all(|part| is_number(part)) {
        let chosen = numbers.iter().map(|number| {
            let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            index.and_then(|index| question.options.get(index)).map(|option| option.label.clone())
        });
        let chosen: Option<Vec<String>> = chosen.collect();
        let chosen = chosen.ok_or_else(|| format!("the choices are 1 to {count}"))?;
        return several(question, chosen);
    }
    let labels: Option<Vec<String>> = text.split(',').map(|part| label(question, part.trim())).collect();
    match labels {
        Some(labels) => several(question, labels),
        None => Ok(vec![text.to_owned()]),
    }
}

fn label(question: &ApprovalQuestion, text: &str) -> Option<String> {
    let same = |label: &str| label.to_lowercase() == text.to_lowercase();
    question.options.iter().find(|option| same(&option.label)).map(|option| option.label.clone())
}

fn several(question: &ApprovalQuestion, mut chosen: Vec<String>) -> Result<Vec<String>, String> {
    let mut seen = Vec::new();
    chosen.retain(|label| {
        let new = !seen.contains(label);
        seen.push(label.clone());
        new
    });
    if chosen.len() > 1 && !question.multi_select {
        return Err("this question takes one choice".to_owned());
    }
    Ok(chosen)
}

/// Where the answer to a question comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The answer.
    Answer(Vec<String>),
    /// It is read from standard input, or typed at a prompt.
    FromInput,
}

/// The answers that arguments mean, by the id of the question. An argument is `QUESTION=TEXT`, where QUESTION is an id or
/// the number of a question, or only the text: those belong to the other questions in their order.
///
/// # Errors
/// Every argument that is wrong, and every question without an answer.
pub(crate) fn of_arguments(
    questions: &[ApprovalQuestion],
    arguments: &[String],
) -> Result<Vec<(String, Given)>, Vec<String>> {
    let mut texts: Vec<Vec<&str>> = vec![Vec::new(); questions.len()];
    let mut rest = Vec::new();
    for argument in arguments {
        let named = argument.split_once('=').and_then(|(name, text)| Some((index_of(questions, name)?, text)));
        match named {
            Some((index, text)) => texts.get_mut(index).into_iter().for_each(|texts| texts.push(text)),
            None => rest.push(argument.as_str()),
        }
    }
    let mut problems = Vec::new();
    let mut open: Vec<usize> =
        (0..questions.len()).filter(|index| texts.get(*index).is_some_and(Vec::is_empty)).collect();
    if let ([only], [_, _, ..]) = (open.as_slice(), rest.as_slice()) {
        // Several texts for the only question.
        texts.get_mut(*only).into_iter().for_each(|texts| texts.append(&mut rest));
        open.clear();
    }
    for (number, text) in rest.iter().enumerate() {
        match open.get(number).and_then(|index| texts.get_mut(*index)) {
            Some(texts) => texts.push(text),
            None => problems.push(format!("{text:?} answers no question: there are {}", questions.len())),
        }
    }
    let mut given = Vec::new();
    for (question, texts) in questions.iter().zip(&texts) {
        match read(question, texts) {
            Ok(answer) => given.push((question.id.clone(), answer)),
            Err(problem) => problems.push(format!("{}: {problem}", question.id)),
        }
    }
    if problems.is_empty() { Ok(given) } else { Err(problems) }
}

fn read(question: &ApprovalQuestion, texts: &[&str]) -> Result<Given, String> {
    if texts == [FROM_INPUT] || (question.secret && texts.is_empty()) {
        return Ok(Given::FromInput);
    }
    if question.secret {
        return Err(
            "the answer is a secret, and a command line is not private: pass `-` to type it or to read it from \
            standard input"
                .to_owned(),
        );
    }
    if texts.is_empty() {
        return Err("has no answer".to_owned());
    }
    let mut answer = Vec::new();
    for text in texts {
        answer.extend(of_text(question, text)?);
    }
    several(question, answer).map(Given::Answer)
}

/// The question with this id or number.
fn index_of(questions: &[ApprovalQuestion], name: &str) -> Option<usize> {
    let by_id = questions.iter().position(|question| question.id == name);
    let by_number = || name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    by_id.or_else(by_number).filter(|index| *index < questions.len())
}

/// Answers by the id of their question.
pub(super) fn collect(questions: &[ApprovalQuestion], given: &[Vec<String>]) -> Answers {
    questions.iter().map(|question| question.id.clone()).zip(given.iter().cloned()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_protocol::QuestionOption;

    use super::*;

    pub(in super::super) fn question(id: &str, options: &[&str], multi_select: bool) -> ApprovalQuestion {
        let option = |label: &&str| QuestionOption { label: (*label).to_owned(), description: None };
        let options = options.iter().map(option).collect();
        ApprovalQuestion {
            id: id.to_owned(),
            question: "Which?".to_owned(),
            options,
            multi_select,
            ..ApprovalQuestion::default()
        }
    }

    #[test]
    fn numbers_and_labels_choose_options() {
        let one = question("q", &["SQLite", "Postgres", "2"], false);
        assert_eq!(of_text(&one, " 1 ").unwrap(), ["SQLite"]);
        assert_eq!(of_text(&one, "postgres").unwrap(), ["Postgres"]);
        assert_eq!(of_text(&one, "2").unwrap(), ["2"], "a label before a number");
        assert_eq!(of_text(&one, "MySQL, please").unwrap(), ["MySQL, please"]);
        assert_eq!(of_text(&one, "4").unwrap_err(), "the choices are 1 to 3");
        assert_eq!(of_text(&one, "1 3").unwrap_err(), "this question takes one choice");
        assert!(of_text(&one, " ").is_err());
        let many = question("q", &["a", "b", "c"], true);
        assert_eq!(of_text(&many, "1, 3 1").unwrap(), ["a", "c"]);
        assert_eq!(of_text(&many, "B,c").unwrap(), ["b", "c"]);
        assert_eq!(of_text(&question("q", &[], false), "42").unwrap(), ["42"]);
        let secret = ApprovalQuestion { secret: true, ..question("q", &["a"], false) };
        assert_eq!(of_text(&secret, " 1 ").unwrap(), [" 1 "], "a secret is not changed");
    }

    #[test]
    fn arguments_name_questions_or_follow_their_order() {
        let questions = [question("db", &["SQLite", "Postgres"], false), question("tags", &["x", "y"], true)];
        let read = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            of_arguments(&questions, &arguments)
        };
        let answer = |id: &str, texts: &[&str]| {
            (id.to_owned(), Given::Answer(texts.iter().map(|text| (*text).to_owned()).collect()))
        };
        let expected = vec![answer("db", &["Postgres"]), answer("tags", &["x", "y"])];
        assert_eq!(read(&["2", "1,2"]).unwrap(), expected);
        assert_eq!(read(&["tags=x", "db=postgres", "2=y"]).unwrap(), expected);
        assert_eq!(read(&["tags=1 2", "2"]).unwrap(), expected);
        assert_eq!(read(&["a=b", "x"]).unwrap()[0], answer("db", &["a=b"]), "not the name of a question");
        assert_eq!(read(&["1"]).unwrap_err(), ["tags: has no answer"]);
        assert_eq!(read(&["1", "1", "z"]).unwrap_err(), ["\"z\" answers no question: there are 2"]);
        assert_eq!(read(&["-", "x"]).unwrap()[0], ("db".to_owned(), Given::FromInput));
        let alone = [question("q", &["x", "y"], true)];
        let both = of_arguments(&alone, &["x".to_owned(), "y".to_owned()]).unwrap();
        assert_eq!(both, [answer("q", &["x", "y"])]);
    }

    #[test]
    fn secret_is_never_taken_from_the_command_line() {
        let secret = [ApprovalQuestion { secret: true, ..question("token", &[], false) }];
        let read = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            of_arguments(&secret, &arguments)
        };
        assert_eq!(read(&[]).unwrap(), [("token".to_owned(), Given::FromInput)]);
        assert_eq!(read(&["-"]).unwrap(), [("token".to_owned(), Given::FromInput)]);
        let problems = read(&["hunter2"]).unwrap_err();
        assert!(problems[0].contains("`-`") && !problems[0].contains("hunter2"), "{problems:?}");
    }
}
