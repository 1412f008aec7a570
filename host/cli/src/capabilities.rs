//! `ostler capabilities`

use anstyle::Style;
use clap::Args;
use unicode_width::UnicodeWidthStr;

use super::context::Context;
use super::exit::Exit;
use super::output::{BAD, DIM, GOOD, Output, WARN};
use super::table::{Cell, Table};
use super::{clean, environment, progress};
use ostler_protocol::methods::ListCapabilitiesParams;
use ostler_protocol::{ApiError, CapabilitySnapshot, Support};

const EXAMPLES: &str = "\
Examples:
  ostler capabilities                   which agent CLIs are installed
  ostler capabilities codex             what this one supports
  ostler capabilities codex --refresh   ask the CLI again
  ostler capabilities --json | jq '.[].features'";

/// Show which agent CLIs are installed and what they support
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Show only this provider; if it cannot be used, the exit code is 6
    provider: Option<String>,
    /// Ask the CLIs again instead of using stored results
    #[arg(long)]
    refresh: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let listed = client.list_plugins().await?;
    let wanted = |name: &str| arguments.provider.as_deref().is_none_or(|provider| provider == name);
    let patterns: Vec<&str> = listed
        .providers
        .iter()
        .filter(|provider| wanted(&provider.name))
        .flat_map(|provider| provider.inherit_environment.iter().map(String::as_str))
        .collect();
    let params = ListCapabilitiesParams {
        refresh: arguments.refresh.then_some(true),
        client_environment: environment::to_send(patterns, std::env::vars_os()),
        provider: arguments.provider.clone(),
    };
    let detected = client.list_capabilities(&params);
    let mut snapshots = progress::while_waiting(context, "agent CLIs", "detecting", detected).await?;
    snapshots.sort_by(|one, other| one.provider.cmp(&other.provider));
    let unusable = snapshots.iter().any(|snapshot| snapshot.support == Support::Blocked);
    let exit = if arguments.provider.is_some() && unusable { Exit::Unavailable } else { Exit::Done };
    if context.json {
        context.out.document(&snapshots)?;
        return Ok(exit);
    }
    if let ([snapshot], true) = (snapshots.as_slice(), arguments.provider.is_some()) {
        let text = page(snapshot, &context.out);
        context.out.write(&text)?;
    } else {
        table(&snapshots).print(&mut context.out)?;
    }
    for snapshot in &snapshots {
        let mut reasons = snapshot.reasons.clone();
        reasons.extend(snapshot.install_hint.clone());
        for reason in reasons {
            context.out.line(format!("{}: {}", clean::line(&snapshot.provider), clean::line(&reason)))?;
        }
    }
    Ok(exit)
}

/// The support level of a CLI with its color. A CLI that was not found is also blocked, but is shown as not installed.
fn support(snapshot: &CapabilitySnapshot) -> (Style, &'static str) {
    match snapshot.support {
        Support::Supported => (GOOD, snapshot.support.name()),
        Support::Degraded => (WARN, snapshot.support.name()),
        Support::Blocked if snapshot.executable.is_none() => (BAD, "not installed"),
        Support::Blocked => (BAD, snapshot.support.name()),
    }
}

/// All details of one provider.
fn page(snapshot: &CapabilitySnapshot, out: &Output) -> String {
    let (style, support) = support(snapshot);
    let executable = snapshot.executable.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let flags: Vec<&str> = snapshot.optional_flags.iter().map(|flag| flag.name.as_str()).collect();
    let fields = [
        ("provider", clean::line(&snapshot.provider)),
        ("support", super::output::paint(out.color, style, support)),
        ("version", clean::line(snapshot.cli_version.as_deref().unwrap_or_default())),
        ("executable", clean::line(&executable)),
        ("features", clean::line(&snapshot.features.join(" "))),
        ("flags", clean::line(&flags.join(" "))),
    ];
    let mut text = String::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        let width = out.width.unwrap_or(usize::MAX).saturating_sub(INDENT);
        for (number, line) in wrapped(&value, width).into_iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            text.push_str(&format!("{}{line}\n", out.styled(DIM, &format!("{name:<INDENT$}"))));
        }
    }
    text
}

/// Width of the field names, in columns.
const INDENT: usize = 12;

/// Wraps a text at spaces. A word longer than `width` gets a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn table(snapshots: &[CapabilitySnapshot]) -> Table {
    let mut table = Table::new(&["PROVIDER", "SUPPORT", "VERSION", "EXECUTABLE", "FEATURES"], 4);
    for snapshot in snapshots {
        let (style, support) = support(snapshot);
        let executable = snapshot.executable.as_ref().map(|path| path.display().to_string());
        table.row(vec![
            snapshot.provider.as_str().into(),
            Cell::styled(style, support),
            snapshot.cli_version.as_deref().unwrap_or_default().into(),
            executable.unwrap_or_default().into(),
            snapshot.features.join(" ").into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_word_boundaries() {
        assert_eq!(wrapped("resume continue tools", 15), ["resume continue", "tools"]);
        assert_eq!(wrapped("a-word-that-is-too-long b", 5), ["a-word-that-is-too-long", "b"]);
        assert_eq!(wrapped("one two", usize::MAX), ["one two"]);
    }
}
