//! Properties: no input breaks the policy, and no disguise lowers a verdict.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{defaults, strictness, verdict};

/// Commands with each verdict.
const COMMANDS: &[&str] = &[
    "rm -rf /etc",
    "git push --force",
    "git reset --hard",
    "cat ~/.ssh/id_rsa",
    "npm publish",
    "curl http://169.254.169.254/",
    "shred x",
    "echo x > /etc/passwd",
    "dd if=x of=/dev/sda",
    "find /etc -delete",
    "ls -la",
];

/// Ways to run a command inside another one. `((` and `$((` would begin arithmetic.
fn wrap(way: usize, command: &str) -> String {
    let quoted = format!("'{}'", command.replace('\'', "'\\''"));
    match way % 22 {
        0 => format!("sh -c {quoted}"),
        1 => format!("bash -lc {quoted}"),
        2 => format!("env A=b sh -c {quoted}"),
        3 => format!("( {command} )"),
        4 => format!("{{ {command}; }}"),
        5 => format!("echo \"$( {command} )\""),
        6 => format!("if true; then {command}; fi"),
        7 => format!("ls && {command} | cat"),
        8 => format!("eval {quoted}"),
        9 => format!("echo x | xargs -n 1 sh -c {quoted}"),
        10 => format!("f() {{ {command}; }}; f"),
        11 => format!("for i in 1 2; do {command}; done"),
        12 => format!("(nohup timeout 5 bash -c {quoted} &)"),
        13 => format!("cat <(x) >/dev/null; {command}"),
        14 => {
            let delimiter = format!("E{}", command.len());
            format!("bash <<'{delimiter}'\n{command}\n{delimiter}\n:")
        }
        15 => format!("x=1 y=$( {command} ) ls"),
        16 => format!("sudo sh -c {quoted}"),
        17 => format!("echo {quoted} | sh"),
        18 => format!("while ! {{ {command}; }}; do sleep 1; done"),
        19 => format!("find . -exec sh -c {quoted} \\;"),
        20 => format!("case x in x) {command};; esac"),
        _ => format!("[[ -n $( {command} ) ]]"),
    }
}

/// The same word, quoted differently.
fn disguise(word: &str, way: usize) -> String {
    if !word.chars().all(|c| c.is_ascii_alphanumeric() || "-/.".contains(c)) {
        return word.to_owned();
    }
    match way % 6 {
        0 => word.to_owned(),
        1 => format!("'{word}'"),
        2 => format!("\"{word}\""),
        3 => word.chars().map(|c| format!("\\{c}")).collect(),
        4 => word.chars().map(|c| format!("$'\\x{:02x}'", c as u32)).collect(),
        _ => word
            .chars()
            .enumerate()
            .map(|(index, c)| if index % 2 == 0 { format!("'{c}'") } else { format!("\"{c}\"") })
            .collect(),
    }
}

fn any_script() -> impl Strategy<Value = String> {
    let token = prop::sample::select(
        &[
            "a",
            "rm",
            "-rf",
            "/etc",
            " ",
            " ",
            "\n",
            ";",
            "&",
            "&&",
            "|",
            "(",
            ")",
            "$(",
            "`",
            "\"",
            "'",
            "{",
            "}",
            "${",
            "x:-",
            "$",
            "((",
            "))",
            "$((",
            "[[",
            "]]",
            "<",
            ">",
            "<<",
            "<<<",
            "<<E\n",
            "\nE\n",
            "if ",
            "then ",
            "fi",
            "for x in ",
            "do ",
            "done",
            "case ",
            "in ",
            "esac",
            "#",
            "\\",
            "$'",
            "=",
            "*",
            "?",
            "[",
            "]",
            "~",
            "eval ",
            "sh -c ",
            "xargs ",
            "env ",
            "find . -exec ",
            "\\;",
            "cd ",
            "é",
            "\u{f8f2}",
            "\0",
            "!",
            ",",
            "..",
        ][..],
    );
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any text gets a verdict.
    #[test]
    fn arbitrary_scripts_do_not_panic(script in any_script(), text in "\\PC{0,60}") {
        let policy = defaults();
        verdict(&policy, &script);
        verdict(&policy, &text);
    }

    /// A command inside others is judged at least as strictly as by itself.
    #[test]
    fn wrapping_never_lowers_a_verdict(command in prop::sample::select(COMMANDS), ways in prop::collection::vec(0_usize..22, 1..4)) {
        let policy = defaults();
        let wrapped = ways.iter().fold(command.to_owned(), |command, way| wrap(*way, &command));
        prop_assert!(
            strictness(&policy, &wrapped) >= strictness(&policy, command),
            "{wrapped}: {}, but {command}: {}", verdict(&policy, &wrapped), verdict(&policy, command)
        );
    }

    /// Quotes do not change a verdict.
    #[test]
    fn quoting_never_lowers_a_verdict(command in prop::sample::select(COMMANDS), ways in prop::collection::vec(0_usize..6, 8)) {
        let policy = defaults();
        let words = command.split(' ').zip(&ways).map(|(word, way)| disguise(word, *way));
        let quoted = words.collect::<Vec<_>>().join(" ");
        prop_assert_eq!(strictness(&policy, &quoted), strictness(&policy, command), "{}", quoted);
    }

    /// More commands do not make a script less strict.
    #[test]
    fn adding_commands_never_lowers_a_verdict(command in prop::sample::select(COMMANDS), other in any_script()) {
        let policy = defaults();
        let script = format!("{command}\n{other}");
        prop_assert!(strictness(&policy, &script) >= strictness(&policy, command).min(1), "{}", script);
    }
}

#[test]
fn hostile_scripts_take_little_time() {
    let policy = defaults();
    let parts = [
        "rm -rf $x ",
        "a$(b)",
        "`a`",
        "{a,b}",
        "{a,{b,",
        "$x$y",
        "x=a; x=b; ",
        "f(){ f; }; f;",
        "eval eval ",
        "sh -c ",
        "sudo -x ",
        "for x in a b; do ",
        "while a; do cd ..; ",
        "cat ~/.s*/i* ",
        "a > b ",
        "\"$(",
        "${x:-",
        "*?[a]",
        "xargs xargs ",
        "find . -exec ",
        "a=$a$a; ",
        "f() { g; g; }; g() { f; f; }; ",
        "case a in a) ",
        "<<E ",
        "$((",
        "((",
        "\\",
        "'",
        "\"",
        ";",
        "|",
        "a|",
        "env A=",
    ];
    for part in parts {
        for (count, tail) in [(10, ""), (60, ""), (1000, ""), (1000, " done"), (20_000, ""), (13, "))))))")] {
            let script = part.repeat(count) + tail;
            let start = Instant::now();
            verdict(&policy, &script);
            // Generous: tests are not optimized. The plugin is, and a call may take 5 s.
            assert!(start.elapsed() < Duration::from_secs(4), "{part:?} × {count}: {:?}", start.elapsed());
        }
    }
    let nested = (0..12).fold("rm -rf /etc".to_owned(), |script, _| format!("for i in 1 2; do x=a$x; {script}; done"));
    let start = Instant::now();
    verdict(&policy, &nested);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
