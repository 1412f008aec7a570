//! `ostler export`, and the answer of `ostler run --output`

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::answer;
use super::clean;
use super::context::{Context, absolute};
use super::destination::Destination;
use super::exit::Exit;
use super::ids;
use super::signals::Signals;
use ostler_client::Client;
use ostler_protocol::methods::ExportRunParams;
use ostler_protocol::{ApiError, ErrorKind, ExportFormat, RunId};

const EXAMPLES: &str = "\
Examples:
  ostler export 1a2b3c4d                           a Markdown page in the exports folder
  ostler export 1a2b3c4d --output run.json         the format follows the extension
  ostler export 1a2b3c4d --format txt --output -   the answer, on standard output

Formats: md (a page to read), json (the run and all events), jsonl (one event per line), txt (only the answer).

Without --output, the file is created in the exports folder and deleted with the run. With --output, an existing file is \
replaced; a device or a FIFO is written to.";

/// Write a run to a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, the beginning or end of one, or `@` for the newest
    run: String,
    /// Format [default: from FILE's extension, otherwise md]
    #[arg(long, short, value_parser = ["md", "json", "jsonl", "txt"])]
    format: Option<String>,
    /// File; `-` writes to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a read-only file
    #[arg(long, requires = "output")]
    force: bool,
}

impl Arguments {
    /// The format from `--format`, else from the extension of the file.
    fn format(&self) -> Result<ExportFormat, ApiError> {
        if let Some(format) = self.format.as_deref().and_then(ExportFormat::from_name) {
            return Ok(format);
        }
        let Some(extension) = self.output.as_deref().and_then(Path::extension).and_then(OsStr::to_str) else {
            return Ok(ExportFormat::Md);
        };
        ExportFormat::from_name(&extension.to_ascii_lowercase()).ok_or_else(|| {
            let message = format!("there is no export format for the extension {:?}", clean::line(extension));
            ApiError::new(ErrorKind::InvalidParams, message)
                .at("--output")
                .hint("name the format of the file with --format: md, json, jsonl or txt")
        })
    }
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let format = arguments.format()?;
    let Some(path) = &arguments.output else {
        let client = context.client().await?;
        let run_id = ids::run(&client, &arguments.run).await?;
        let result = client.export_run(&ExportRunParams::new(run_id, format)).await?;
        if context.json {
            context.out.document(&result)?;
        } else {
            context.out.line(clean::line(&result.path.display().to_string()))?;
        }
        return Ok(Exit::Done);
    };
    let destination = Destination::prepare(path, arguments.force).map_err(|error| error.at("--output"))?;
    let to_stdout = destination.is_stdout();
    let client = context.client().await?;
    let run_id = ids::run(&client, &arguments.run).await?;
    let params = ExportRunParams { transient: true, ..ExportRunParams::new(run_id, format) };
    let mut result = client.export_run(&params).await?;
    let failed = |error: io::Error| {
        let shown = clean::line(&result.path.display().to_string());
        ApiError::new(ErrorKind::Io, format!("failed to read {shown}: {error}"))
    };
    let mut file = File::open(&result.path).map_err(failed)?;
    // The open file stays readable and disappears with this process.
    std::fs::remove_file(&result.path).map_err(failed)?;
    let mut draft = destination.begin()?;
    io::copy(&mut file, &mut draft).map_err(|error| draft.failed(&error))?;
    draft.finish()?;
    if to_stdout {
        return Ok(Exit::Done);
    }
    result.path = absolute(path)?;
    if context.json {
        context.out.document(&result)?;
    } else {
        context.out.line(clean::line(&result.path.display().to_string()))?;
    }
    Ok(Exit::Done)
}

/// Writes the answer of an ended run to its destination. A slow reader can block this; a signal ends it.
pub(super) async fn write_answer(
    client: &Client,
    run_id: RunId,
    destination: Destination,
    signals: &mut Signals,
) -> Result<Exit, ApiError> {
    let run = client.get_run(run_id).await?;
    let hint = || format!("`ostler show {run_id}` shows the answer, `ostler export {run_id} --format txt` writes it");
    let failed = |error: io::Error| {
        ApiError::new(ErrorKind::Io, format!("failed to read the answer of run {run_id}: {error}")).hint(hint())
    };
    // Read all of it first: an incomplete answer must not reach the file.
    let mut whole = BufWriter::new(tempfile::tempfile().map_err(failed)?);
    if !answer::copy(client, &run, &mut |piece| whole.write_all(piece).map_err(failed)).await? {
        return Err(ApiError::new(ErrorKind::NotFound, format!("run {run_id} gave no answer")));
    }
    let mut whole = whole.into_inner().map_err(|error| failed(error.into_error()))?;
    whole.rewind().map_err(failed)?;
    let writing = tokio::task::spawn_blocking(move || {
        let mut draft = destination.begin()?;
        io::copy(&mut whole, &mut draft).map_err(|error| draft.failed(&error))?;
        draft.finish()
    });
    let written = tokio::select! {
        written = writing => written.unwrap_or_else(|error| Err(ApiError::internal(error))),
        () = signals.next() => return Ok(Exit::Canceled),
    };
    written.map_err(|error| error.hint(hint())).map(|()| Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn format_follows_extension_unless_given() {
        let format = |format: Option<&str>, output: Option<&str>| {
            let arguments = Arguments {
                run: "1a2b".to_owned(),
                format: format.map(str::to_owned),
                output: output.map(PathBuf::from),
                force: false,
            };
            arguments.format()
        };
        for (named, output, expected) in [
            (None, None, ExportFormat::Md),
            (None, Some("-"), ExportFormat::Md),
            (None, Some("notes"), ExportFormat::Md),
            (None, Some("a/b.jsonl"), ExportFormat::Jsonl),
            (None, Some("README.MD"), ExportFormat::Md),
            (Some("txt"), Some("b.json"), ExportFormat::Txt),
            (Some("md"), Some("b.pdf"), ExportFormat::Md),
        ] {
            assert_eq!(format(named, output).unwrap(), expected, "{named:?} {output:?}");
        }
        let error = format(None, Some("a.b/run.pdf")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParams);
        assert_eq!(error.message, r#"there is no export format for the extension "pdf""#);
    }
}
