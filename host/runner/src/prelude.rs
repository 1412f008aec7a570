//! What every shell of the child runs first: the shell prelude, and the `PATH` that login shells may not reset.
//!
//! A login shell starts with the system's profile, which sets `PATH` again. bash reads `BASH_ENV` after it, also for
//! `bash -lc`, and zsh, which reads `$ZDOTDIR/.zshenv` always, reads `.zprofile` and `.zlogin` after it: in both, the
//! script of this module runs last. A plain POSIX login shell (`sh -lc`, `dash -l`) reads `ENV` only when interactive,
//! so its profile wins there; the allowlist limits names, it is not a sandbox.
//!
//! A bash whose standard input is a socket, and which finds no shell above it, assumes that a remote-shell daemon
//! started it: it reads `~/.bashrc` and ignores `BASH_ENV`. Programs on Node.js and Bun give their children such an
//! input, so the child gets a `SHLVL` as below another shell.

use std::ffi::OsString;
use std::path::Path;

use super::private::{Access, PrivateDir, PrivateError};
use super::shims::{Problem, quote};

const FOLDER: &str = "shell";
/// The number of shells above the child. bash adds one for itself, and assumes a remote-shell daemon below two.
const SHELL_LEVEL: (&str, &str) = ("SHLVL", "1");
const MAX_CONTENT: usize = 1024 * 1024;

/// A script that every shell of the child runs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellPrelude {
    /// The script.
    pub content: String,
    /// Whether bash and zsh run it (`BASH_ENV`, `ZDOTDIR`).
    pub bash_env: bool,
    /// Whether interactive POSIX shells run it (`ENV`).
    pub sh_env: bool,
}

/// The files and variables of a prelude, not written yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreludePlan {
    files: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, &'static str)>,
}

/// Plans the private files behind `BASH_ENV`, `ENV` and `ZDOTDIR`: the prelude and, if `fixed_path` names the folder of
/// an allowlist, the line that sets `PATH` to it again after a profile has changed it.
///
/// # Errors
/// Every problem of the prelude at once.
pub fn plan_prelude(prelude: Option<&ShellPrelude>, fixed_path: Option<&Path>) -> Result<PreludePlan, Vec<Problem>> {
    if let Some(prelude) = prelude {
        let problems = check(prelude);
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    let path_line = fixed_path.map(|path| {
        let path = quote(&path.to_string_lossy());
        format!("# The allowlist of this run has the last word.\nPATH={path}\nexport PATH\n")
    });
    let script = |wanted: bool| {
        let content = prelude.filter(|_| wanted).map(|prelude| prelude.content.as_str()).unwrap_or_default();
        let gap = if content.is_empty() || content.ends_with('\n') { "" } else { "\n" };
        format!("{content}{gap}{}", path_line.as_deref().unwrap_or_default())
    };
    let mut plan = PreludePlan::default();
    for (variable, file, wanted) in [
        ("BASH_ENV", "shell/bash", prelude.is_some_and(|prelude| prelude.bash_env)),
        ("ENV", "shell/sh", prelude.is_some_and(|prelude| prelude.sh_env)),
    ] {
        let content = script(wanted);
        if wanted || path_line.is_some() {
            plan.files.push((file, content));
            plan.variables.push((variable, file));
        }
    }
    let of_zsh = prelude.is_some_and(|prelude| prelude.bash_env);
    if of_zsh || path_line.is_some() {
        plan_zsh(&mut plan, of_zsh, path_line.as_deref().unwrap_or_default());
    }
    Ok(plan)
}

/// Plans the files that zsh reads. They run the same prelude script as bash. `ZDOTDIR` hides the user's own files, so
/// each file first reads the user's.
fn plan_zsh(plan: &mut PreludePlan, runs_prelude: bool, path_line: &str) {
    // The user's file may set `ZDOTDIR` to the folder of the other files; zsh itself keeps reading this folder.
    let always = "ostler_zsh=$ZDOTDIR\n[ ! -f \"$HOME/.zshenv\" ] || . \"$HOME/.zshenv\"\n\
        [ \"$ZDOTDIR\" = \"$ostler_zsh\" ] && ostler_own=$HOME || ostler_own=$ZDOTDIR\nZDOTDIR=$ostler_zsh\n";
    let own = |file: &str| format!("[ ! -f \"$ostler_own/{file}\" ] || . \"$ostler_own/{file}\"\n");
    // A login shell runs it last, after all profiles, as bash does; any other shell reads only the first file.
    let (now, last) = if runs_prelude {
        ("[[ -o login ]] || . \"$ostler_zsh/bash\"\n", ". \"$ostler_zsh/bash\"\n")
    } else {
        ("", "")
    };
    plan.files.push(("shell/.zshenv", format!("{always}{now}{path_line}")));
    plan.files.push(("shell/.zprofile", format!("{}{path_line}", own(".zprofile"))));
    plan.files.push(("shell/.zshrc", format!("{}{path_line}", own(".zshrc"))));
    plan.files.push(("shell/.zlogin", format!("{}{last}{path_line}", own(".zlogin"))));
    plan.variables.push(("ZDOTDIR", FOLDER));
}

fn check(prelude: &ShellPrelude) -> Vec<Problem> {
    let mut problems = Vec::new();
    if prelude.content.contains('\0') {
        problems.push(Problem::new("/content", "holds a NUL character: remove it"));
    }
    if prelude.content.len() > MAX_CONTENT {
        let size = prelude.content.len();
        problems
            .push(Problem::new("/content", format!("has {size} bytes, at most {MAX_CONTENT} are taken: shorten it")));
    }
    if !prelude.bash_env && !prelude.sh_env {
        problems.push(Problem::new("", "has no effect with both bashEnv and shEnv off: turn one on, or leave it out"));
    }
    problems
}

impl PreludePlan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names of the variables that [`PreludePlan::write`] will return for its files.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        self.variables.iter().map(|(name, _)| *name)
    }

    /// Writes the files (0600) and returns the variables to set for the child: those that name the files, and the shell
    /// level without which bash may ignore them.
    ///
    /// # Errors
    /// What the private folder refuses.
    pub fn write(&self, private: &PrivateDir) -> Result<Vec<(OsString, OsString)>, PrivateError> {
        for (file, content) in &self.files {
            private.write(file, content.as_bytes(), Access::Data)?;
        }
        let variable = |(name, file): &(&str, &str)| (OsString::from(name), private.path().join(file).into_os_string());
        let mut variables: Vec<_> = self.variables.iter().map(variable).collect();
        if self.variables().any(|name| name == "BASH_ENV") {
            variables.push((SHELL_LEVEL.0.into(), SHELL_LEVEL.1.into()));
        }
        Ok(variables)
    }
}
