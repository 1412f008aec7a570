//! Options and operands of a command line.

use super::programs;
use crate::act::{Operand, Opt};

#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) options: Vec<Opt>,
    pub(super) operands: Vec<Operand>,
}

/// Separates options and operands. For programs that are known, the options with a value are; for others, an operand behind
/// an option may be its value.
pub(super) fn parse(program: &str, arguments: &[String]) -> Parsed {
    let known = programs::options(program);
    let mut parsed = Parsed::default();
    let mut arguments = arguments.iter();
    let mut may_be_value = false;
    while let Some(argument) = arguments.next() {
        let was_option = std::mem::take(&mut may_be_value);
        if argument == "--" {
            // To git, it says that files follow.
            parsed.options.push(Opt { name: argument.clone(), value: None });
            parsed.operands.extend(arguments.map(|text| Operand { text: text.clone(), may_be_value: false }));
            break;
        }
        if program == "cargo" && argument.starts_with('+') {
            // The toolchain.
            continue;
        }
        if !argument.starts_with('-') || argument == "-" {
            parsed.operands.push(Operand { text: argument.clone(), may_be_value: was_option });
            continue;
        }
        if let Some((name, value)) = argument.split_once('=').filter(|(name, _)| name.len() > 2) {
            parsed.options.push(Opt { name: name.to_owned(), value: Some(value.to_owned()) });
            continue;
        }
        if known.valued.contains(&argument.as_str()) {
            parsed.options.push(Opt { name: argument.clone(), value: arguments.next().cloned() });
            continue;
        }
        parsed.options.push(Opt { name: argument.clone(), value: None });
        may_be_value = !known.flags.contains(&argument.as_str());
        if known.long_with_one_dash || argument.starts_with("--") || argument.chars().count() == 2 {
            continue;
        }
        // A cluster: `-rf` is `-r -f`; behind one with a value, the rest is the value.
        for (index, letter) in argument.char_indices().skip(1) {
            let name = format!("-{letter}");
            let rest = &argument[index + letter.len_utf8()..];
            if known.valued.contains(&name.as_str()) {
                let value = if rest.is_empty() { arguments.next().cloned() } else { Some(rest.to_owned()) };
                may_be_value = false;
                parsed.options.push(Opt { name, value });
                break;
            }
            parsed.options.push(Opt { name, value: (!rest.is_empty()).then(|| rest.to_owned()) });
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_operands_are_separated() {
        let shown = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let parsed = parse(&words[0], &words[1..]);
            let options: Vec<String> = parsed.options.iter().map(|option| option.name.clone()).collect();
            let operands: Vec<String> = parsed.operands.iter().map(|operand| operand.text.clone()).collect();
            format!("{} / {}", options.join(" "), operands.join(" "))
        };
        for (line, expected) in [
            ("rm -rf x -- -y", "-rf -r -f -- / x -y"),
            ("git -C dir -c a=b push --force=x o", "-C -c --force / push o"),
            ("find . -delete", "-delete / ."),
            ("kubectl -n prod delete pod x", "-n / delete pod x"),
            ("unknown -x value word", "-x / value word"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }
}
