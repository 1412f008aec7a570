//! Shell command lines in the output of CLIs.

/// Splits a line into words according to the quoting rules of POSIX shells. None if a quote is not closed.
#[must_use]
pub fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match chars.next()? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            ' ' | '\t' | '\n' => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// Removes the shell that a CLI puts around a command: `/bin/bash -lc 'ls; pwd'` becomes `ls; pwd`. Other lines are returned
/// unchanged.
#[must_use]
pub fn unwrap(line: &str) -> String {
    let Some(words) = split(line) else { return line.to_owned() };
    let [shell, option, script] = words.as_slice() else { return line.to_owned() };
    let name = shell.rsplit(['/', '\\']).next().unwrap_or(shell);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let is_shell = matches!(name, "sh" | "bash" | "zsh" | "dash" | "ksh" | "ash" | "fish");
    let takes_script = option.strip_prefix('-').is_some_and(|letters| {
        letters.contains('c') && letters.chars().all(|c| matches!(c, 'c' | 'l' | 'i' | 'e' | 'u' | 'x'))
    });
    let powershell = matches!(name, "pwsh" | "powershell") && matches!(option.as_str(), "-Command" | "-c");
    if (is_shell && takes_script) || powershell { script.clone() } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shell_wrappers_are_removed() {
        assert_eq!(unwrap("/bin/bash -lc 'echo tool; ls'"), "echo tool; ls");
        assert_eq!(unwrap("/bin/bash -lc pwd"), "pwd");
        assert_eq!(unwrap("/bin/bash -c 'a '\"'\"'b'\"'\"''"), "a 'b'");
        assert_eq!(
            unwrap(r#"/bin/bash -lc "printf \"x\" > p && f \""'$(cat p)"; cat'"#),
            "printf \"x\" > p && f \"$(cat p)\"; cat"
        );
        assert_eq!(unwrap("ls -la /tmp"), "ls -la /tmp");
        assert_eq!(unwrap("bash script.sh x"), "bash script.sh x");
        assert_eq!(unwrap("/bin/bash -lc 'not closed"), "/bin/bash -lc 'not closed");
        assert_eq!(unwrap(""), "");
    }

    proptest! {
        #[test]
        fn arbitrary_lines_do_not_panic(line in "[ '\"\\\\a-c\\n$]{0,24}") {
            let _ = unwrap(&line);
        }
    }
}
