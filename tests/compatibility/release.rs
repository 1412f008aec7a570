//! One release of an agent CLI.

use super::support::{CLAUDE, CODEX, Cli};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest time for an installation.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// `codex@0.171.0`
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) cli: &'static str,
    pub(crate) version: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.cli, self.version)
    }
}

impl Release {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a release; write codex@VERSION or claude@VERSION");
        let (cli, version) = text.split_once('@').ok_or_else(wrong)?;
        let cli = [CODEX.name, CLAUDE.name].into_iter().find(|known| *known == cli).ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if !version.starts_with(|c: char| c.is_ascii_digit()) || !version.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { cli, version: version.to_owned() })
    }

    pub(crate) fn cli(&self) -> &'static Cli {
        if self.cli == CODEX.name { &CODEX } else { &CLAUDE }
    }

    fn package(&self) -> &'static str {
        if self.cli == CODEX.name { "@openai/codex" } else { "@anthropic-ai/claude-code" }
    }

    /// Installs it in its own folder below this one, unless it is there already, and returns the path of its program.
    pub(crate) fn install(&self, below: &Path) -> Result<PathBuf, String> {
        let folder = below.join(self.cli).join(&self.version);
        let program = folder.join("node_modules/.bin").join(self.cli);
        let found = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
        if program.exists() {
            return found(&program);
        }
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"])
            .arg(&folder)
            .arg(format!("{}@{}", self.package(), self.version))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("npm cannot be started: {error}"))?;
        let start = Instant::now();
        let status = loop {
            match npm.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if start.elapsed() < INSTALL_LIMIT => thread::sleep(Duration::from_millis(100)),
                _ => {
                    let _ = npm.kill();
                    let _ = npm.wait();
                    let _ = fs::remove_dir_all(&folder);
                    return Err(format!("npm has not installed it within {} s", INSTALL_LIMIT.as_secs()));
                }
            }
        };
        if !status.success() {
            let _ = fs::remove_dir_all(&folder);
            return Err(format!("npm ended with {status}"));
        }
        found(&program)
    }
}
