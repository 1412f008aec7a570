//! Completions in real shells, each on its own terminal, and manual pages in real formatters.

use crate::support::TestHost;
use crate::support::terminal::Terminal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A home with one object of each kind that has a name, and files to complete.
struct CompletionHost {
    host: TestHost,
    run: String,
    chat: String,
}

impl CompletionHost {
    fn new() -> Self {
        let mut host = TestHost::granted("");
        let bin = host.root().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(crate::support::binary(), bin.join("ostler")).unwrap();
        let path = std::env::var("PATH").unwrap();
        host.set("PATH", format!("{}:{path}", bin.display()));
        let run = host.detach(&["rehearsal", "SAY the title: of a run"]);
        host.wait_for_end(&run);
        let chat = host.run(&["chat", "new", "rehearsal", "--title", "a conversation"]).ok().stdout.trim().to_owned();
        host.run(&["profiles", "save", "careful one", "--provider", "rehearsal"]).ok();
        host.run(&["profiles", "save", "odd $(touch made)", "--provider", "rehearsal"]).ok();
        host.run(&["access", "add", "dashboard"]).ok();
        host.stop();
        fs::create_dir(host.work().join("folder")).unwrap();
        host.file("folder.txt", "");
        host.file("spaced name.txt", "");
        Self { host, run, chat }
    }

    fn script(&self, shell: &str, name: &str) -> PathBuf {
        let script = self.host.run(&["completions", shell]).ok().stdout;
        let folder = self.host.root().join("scripts");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, script).unwrap();
        path
    }

    /// The text before the tab, and the words of the command line after it.
    fn cases(&self) -> Vec<(String, Vec<String>)> {
        let short = |id: &str| id[id.len() - 8..].to_owned();
        let (run, chat) = (short(&self.run), short(&self.chat));
        let case = |typed: &str, words: &[&str]| {
            (typed.to_owned(), words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>())
        };
        vec![
            case("capab", &["capabilities"]),
            case("run --sandb", &["run", "--sandbox"]),
            case("run --sandbox ful", &["run", "--sandbox", "full-access"]),
            case("run --sandbox=ful", &["run", "--sandbox=full-access"]),
            case("run reh", &["run", "rehearsal"]),
            case("runs --provider cla", &["runs", "--provider", "claude"]),
            case(&format!("show {}", &run[..7]), &["show", &run]),
            case(&format!("show {}", &self.run[..35]), &["show", &self.run]),
            case(&format!("chat show {}", &chat[..7]), &["chat", "show", &chat]),
            case("run --profile car", &["run", "--profile", "careful one"]),
            // A name is never run as a command.
            case("run --profile odd", &["run", "--profile", "odd $(touch made)"]),
            case("settings get scheduler.gl", &["settings", "get", "scheduler.global"]),
            case("run --file folder.", &["run", "--file", "folder.txt"]),
            case("run --file=folder.", &["run", "--file=folder.txt"]),
            case("run --file spa", &["run", "--file", "spaced name.txt"]),
            // A file has the same prefix.
            case("run --cwd fol", &["run", "--cwd", "folder/"]),
            case("run --cwd=fol", &["run", "--cwd=folder/"]),
            case("run --tool file_r", &["run", "--tool", "file_read"]),
            // No run has such an id, and prompts are not completed.
            case("show zzzz", &["show", "zzzz"]),
            case("run rehearsal fol", &["run", "rehearsal", "fol"]),
        ]
    }

    /// Types each case into a shell, and lets the shell print the words of the line.
    fn check(&self, shell: &str, args: &[&str], prepare: &str) {
        if !has(shell) {
            return;
        }
        // With a dumb terminal, the shell does not redraw lines.
        let mut command = self.host.program("env");
        command.arg("TERM=dumb").arg(shell).args(args).current_dir(self.host.work()).env_clear();
        let environment = self.host.command(&[]);
        command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut terminal = Terminal::start(command);
        terminal.type_keys(&format!("{prepare}; echo PRE''PARED\n"));
        terminal.wait_for("PREPARED");
        for (typed, words) in self.cases() {
            // Insert a command that prints the words at the beginning of the line, and a mark at its end.
            terminal.type_keys(&format!("ostler {typed}\t"));
            terminal.type_keys("\u{1}printf '<%s>' \u{5} END\n");
            let printed = terminal.wait_for("<END>");
            let mut expected = format!("<ostler><{}>", words.join("><"));
            if shell == "zsh" {
                // zsh removes the slash if a space follows.
                expected = expected.replace("/>", ">");
            }
            assert!(printed.ends_with(&expected), "{shell}: {typed}: {printed:?}, not {expected}");
        }
        assert!(!self.host.work().join("made").exists());
        assert!(crate::support::carrying(self.host.root()).iter().all(|process| !process.command.contains("serve")));
    }
}

/// Whether a program is installed; that a test is skipped is said on standard error.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        crate::support::print_skipped(&format!("there is no {program}"));
    }
    found
}

#[test]
fn bash_completes_names_and_paths() {
    let fixture = CompletionHost::new();
    let script = fixture.script("bash", "ostler.bash");
    fixture.check(
        "bash",
        &["--norc", "--noprofile", "-i"],
        &format!("bind 'set bell-style none'; source {}", script.display()),
    );
}

#[test]
fn zsh_completes_names_and_paths() {
    let fixture = CompletionHost::new();
    let script = fixture.script("zsh", "_ostler");
    let folder = script.parent().unwrap().display().to_string();
    let prepare = format!("unsetopt beep; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D");
    fixture.check("zsh", &["-f", "-i"], &prepare);
}

#[test]
fn fish_completes_names_and_paths() {
    let fixture = CompletionHost::new();
    let script = fixture.script("fish", "ostler.fish");
    fixture.check("fish", &["--no-config", "-i"], &format!("source {}", script.display()));
}

#[test]
fn candidates_have_descriptions() {
    let fixture = CompletionHost::new();
    let ask = |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let mut args = vec!["__complete", &index, "--"];
        args.extend(words);
        let done = fixture.host.run(&args).ok();
        assert_eq!(done.stderr, "");
        done.stdout
    };
    assert_eq!(
        ask(&["ostler", "show", ""]),
        format!("\n{}\tcompleted: SAY the title: of a run\nlast\tthe newest run\n", &fixture.run[28..])
    );
    assert_eq!(ask(&["ostler", "chat", "show", ""]), format!("\n{}\ta conversation\n", &fixture.chat[28..]));
    assert_eq!(ask(&["ostler", "profiles", "show", ""]), "\ncareful one\trehearsal\nodd $(touch made)\trehearsal\n");
    assert_eq!(ask(&["ostler", "access", "revoke", ""]), "\ndashboard\tclass run\n");
    assert_eq!(ask(&["ostler", "run", ""]), "\nclaude\ncodex\nrehearsal\n");
    assert_eq!(ask(&["ostler", "settings", "get", "log.l"]), "\nlog.level\t\"info\"\n");
    assert!(!ask(&["ostler", "settings", "set", ""]).contains("policy."));
}

#[test]
fn prints_no_candidates_and_starts_no_host_on_errors() {
    let host = TestHost::with_config("this is no TOML");
    let database = host.home().join("data/ostler.db");
    fs::write(&database, "this is no database").unwrap();
    for words in [&["ostler", "show", "a"][..], &["ostler", "chat", "show", "a"], &["ostler", "no", "such", "zz"]] {
        let index = (words.len() - 1).to_string();
        let mut args = vec!["__complete", &index, "--"];
        args.extend(words);
        let done = host.run(&args).ok();
        assert_eq!((done.stdout.as_str().trim(), done.stderr.as_str()), ("", ""), "{words:?}");
    }
    for args in [&["__complete"][..], &["__complete", "9"], &["__complete", "x", "--", "ostler"]] {
        assert_eq!(host.run(args).ok().all(), "", "{args:?}");
    }
    assert_eq!(host.run(&["__complete", "2", "--", "ostler", "run", "cla"]).ok().stdout, "\nclaude\n");
    assert!(crate::support::carrying(host.root()).is_empty());
    assert_eq!(fs::read_to_string(database).unwrap(), "this is no database");
    host.run(&["completions", "tcsh"]).code(2);
}

#[test]
fn manual_pages_have_no_formatter_warnings() {
    let mut host = TestHost::new();
    host.set("SOURCE_DATE_EPOCH", "1700000000");
    let folder = host.work().join("share/man/man1");
    host.run(&["man", "--out", folder.to_str().unwrap()]).ok();
    let pages: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 40, "{pages:?}");
    assert_eq!(
        host.run(&["man", "chat", "send"]).ok().stdout,
        fs::read_to_string(folder.join("ostler-chat-send.1")).unwrap()
    );
    host.run(&["man", "no-such-command"]).code(5);
    let warnings_of = |program: &str, args: &[&str]| {
        if !has(program) {
            return String::new();
        }
        let output = Command::new(program).args(args).args(&pages).output().unwrap();
        let warnings = if program == "mandoc" { &output.stdout } else { &output.stderr };
        String::from_utf8_lossy(warnings).into_owned()
    };
    assert_eq!(warnings_of("mandoc", &["-T", "lint", "-W", "warning"]), "");
    assert_eq!(warnings_of("groff", &["-man", "-ww", "-T", "utf8", "-z"]), "");
}
