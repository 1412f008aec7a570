//! `ostler man`

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Cli;
use super::context::{Context, VERSION};
use super::exit::Exit;
use super::output::complain;
use super::times;
use ostler_protocol::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler man                                       read the manual page of ostler
  ostler man chat send                             read the page of a command
  ostler man --out ~/.local/share/man/man1         install all pages, for `man ostler-run`

The pages have the same content as `ostler help`. Set SOURCE_DATE_EPOCH for pages with a fixed date.";

/// The section of the manual.
const SECTION: &str = "1";

/// Read or install the manual pages
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Command to print the page of, such as `run` or `chat send` [default: ostler itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    names: Vec<String>,
    /// Write the pages of all commands into this folder, which is created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let root = built();
    let date = date()?;
    let Some(folder) = &arguments.out else {
        let command = find(&root, &arguments.names)?;
        let page = page(command, &date).map_err(|error| ApiError::internal(error.to_string()))?;
        // On a terminal, print roff source only if the program `man` is missing.
        if !(context.out.stdout_terminal && shown_by_man(&page)) {
            context.out.write(&page)?;
        }
        return Ok(Exit::Done);
    };
    let count = write_all(&root, folder, &date).map_err(|error| {
        let message = format!("failed to write manual pages to {}: {error}", folder.display());
        ApiError::new(ErrorKind::Io, message)
    })?;
    complain(&format!("wrote {count} manual pages to {}", folder.display()));
    Ok(Exit::Done)
}

/// Shows a page with the program `man`. Returns whether it could.
fn shown_by_man(page: &str) -> bool {
    let started = std::process::Command::new("man").args(["-l", "-"]).stdin(Stdio::piped()).spawn();
    let Ok(mut man) = started else { return false };
    // A write error means that the user left the pager early.
    let _ = man.stdin.take().map(|mut stdin| stdin.write_all(page.as_bytes()));
    man.wait().is_ok_and(|status| status.success())
}

/// The definition of the command line without the generated command `help`, whose page would be empty.
fn built() -> Command {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    root
}

/// The command with this name; aliases are accepted.
fn find<'a>(root: &'a Command, names: &[String]) -> Result<&'a Command, ApiError> {
    let mut command = root;
    for name in names {
        command = command.find_subcommand(name).filter(|found| !found.is_hide_set()).ok_or_else(|| {
            let hint = format!("`{} --help` lists the commands", command.get_bin_name().unwrap_or("ostler"));
            ApiError::not_found("command", name).hint(hint)
        })?;
    }
    Ok(command)
}

/// The date of the pages: today, or that of `SOURCE_DATE_EPOCH`.
fn date() -> Result<String, ApiError> {
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => times::now(),
        Ok(seconds) => {
            let time = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
            time.ok_or_else(|| {
                let message = "SOURCE_DATE_EPOCH must be a number of seconds since 1970";
                ApiError::new(ErrorKind::InvalidParams, message)
            })?
        }
    };
    Ok(time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string())
}

/// Writes the page of a command and those of all commands below it. Returns their number.
fn write_all(command: &Command, folder: &Path, date: &str) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(format!("{}.{SECTION}", title(command))), page(command, date)?)?;
    let mut count = 1;
    for below in visible(command) {
        count += write_all(below, folder, date)?;
    }
    Ok(count)
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// The page of a command, as roff.
fn page(command: &Command, date: &str) -> io::Result<String> {
    let source = format!("ostler {VERSION}");
    let man = Man::new(command.clone()).date(date).source(source).manual("Ostler").section(SECTION);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if let Some(help) = command.get_after_help() {
        after_help(&mut rest, &help.to_string());
    }
    see_also(&mut rest, command);
    rest.to_writer(&mut page)?;
    String::from_utf8(page).map(|page| tidy(&page)).map_err(io::Error::other)
}

/// The usage line of the help. The generator would list every option in it.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(name), roman(usage.strip_prefix(name).unwrap_or(usage))]);
    roff
}

/// Removes what separately rendered parts leave in a page: repeated definitions, and empty lines, for which formatters
/// print warnings.
fn tidy(page: &str) -> String {
    let preamble = Roff::new().render();
    let body = page.replace(&preamble, "").replace(".br\n\n.br\n", ".br\n");
    format!("{preamble}{body}")
}

/// Renders the text that follows the options in the help. A line that ends with a colon begins a section, indented
/// lines are examples and tables, and every other line is a paragraph.
fn after_help(roff: &mut Roff, text: &str) {
    let mut literal = false;
    let mut described = false;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indented = line.starts_with(' ');
        let next_is_indented = lines.peek().is_some_and(|next| next.starts_with(' '));
        if literal && !indented {
            roff.control("EE", []);
            literal = false;
        }
        if line.trim().is_empty() {
            continue;
        }
        if indented {
            if !literal {
                roff.control("EX", []);
                literal = true;
            }
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        } else if let Some(heading) = line.strip_suffix(':').filter(|_| next_is_indented) {
            roff.control("SH", [heading.to_uppercase().as_str()]);
            described = false;
        } else {
            if !described {
                roff.control("SH", ["NOTES"]);
                described = true;
            }
            roff.text([roman(line)]);
        }
    }
    if literal {
        roff.control("EE", []);
    }
}

fn see_also(roff: &mut Roff, command: &Command) {
    let page = |name: &str| -> [Inline; 2] { [bold(name), roman(format!("({SECTION})"))] };
    let title = title(command);
    let above = title.rsplit_once('-').map(|(above, _)| above.to_owned());
    let Some(above) = above else { return };
    roff.control("SH", ["SEE ALSO"]);
    roff.text(page(&above));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let root = built();
        let count = write_all(&root, &folder.path().join("man1"), "2026-01-02").unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join("man1").join(name)).unwrap();
        let main = read("ostler.1");
        assert!(main.contains(".TH ostler 1 2026-01-02 "), "{main}");
        assert_eq!(main.matches(".ds Aq").count(), 2, "one for each kind of formatter: {main}");
        assert!(main.contains("ostler\\-run(1)") && main.contains(".SH \"EXIT CODES\""), "{main}");
        let send = read("ostler-chat-send.1");
        assert!(send.contains(".SH EXAMPLES") && send.contains("ostler chat send"), "{send}");
        assert!(send.contains("\\fBostler\\-chat\\fR(1)"), "{send}");
        assert_eq!(std::fs::read_dir(folder.path().join("man1")).unwrap().count(), count);
    }

    #[test]
    fn finds_command_by_name_and_rejects_unknown() {
        let root = built();
        let found = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            find(&root, &names).map(title)
        };
        assert_eq!(found(&[]).unwrap(), "ostler");
        assert_eq!(found(&["chat", "send"]).unwrap(), "ostler-chat-send");
        assert_eq!(found(&["chat", "sing"]).unwrap_err().kind, ErrorKind::NotFound);
    }
}
