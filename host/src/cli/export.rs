//! `ostler export`, and the answer of `ostler run --output`

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::answer::{self, Answer};
use super::clean;
use super::context::{Context, absolute};
use super::exit::Exit;
use super::ids;
use super::output::Output;
use crate::api::client::Client;
use crate::api::types::ExportRunParams;
use crate::model::{ApiError, ErrorKind, ExportFormat, RunId};

const EXAMPLES: &str = "\
Examples:
  ostler export 1a2b3c4d                           a page to read, in the folder of exports
  ostler export 1a2b3c4d --output run.json         the form follows the ending
  ostler export 1a2b3c4d --format txt --output -   the answer, on standard output

Forms: md (a page to read), json (the record and all events), jsonl (the events, one a line), txt (the answer alone).
Without --output, and with `-`, the file lies in the folder of exports and is deleted with the run; one at a path of
your own stays.";

/// Write a run to a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, or a beginning or end of one
    run: String,
    /// The form [default: as FILE ends, else md]
    #[arg(long, short, value_parser = ["md", "json", "jsonl", "txt"])]
    format: Option<String>,
    /// The file; `-` writes to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
}

impl Arguments {
    fn format(&self) -> ExportFormat {
        let ending = self.output.as_deref().and_then(Path::extension).and_then(OsStr::to_str);
        let named = |name: &str| ExportFormat::from_name(name);
        self.format.as_deref().and_then(named).or(ending.and_then(named)).unwrap_or(ExportFormat::Md)
    }
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let to_stdout = arguments.output.as_deref() == Some(Path::new("-"));
    let path = arguments.output.as_deref().filter(|_| !to_stdout).map(absolute).transpose()?;
    let client = context.client().await?;
    let run_id = ids::run(&client, &arguments.run).await?;
    let params = ExportRunParams { run_id, format: arguments.format(), path, overwrite: arguments.force };
    let result = client.export_run(&params).await.map_err(|error| {
        let error = ApiError::from(error);
        // The host does not know how this program is told so.
        if error.kind == ErrorKind::Conflict && error.pointer.as_deref() == Some("/path") {
            return error.hint("name another file, or give --force");
        }
        error
    })?;
    if to_stdout {
        copy(&result.path, &mut context.out)?;
    } else if context.json {
        context.out.document(&result)?;
    } else {
        context.out.line(clean::line(&result.path.display().to_string()))?;
    }
    Ok(Exit::Done)
}

/// Writes a file to standard output, block by block.
fn copy(path: &Path, out: &mut Output) -> Result<(), ApiError> {
    let failed = |error: std::io::Error| {
        ApiError::new(ErrorKind::Io, format!("failed to read {}: {error}", clean::line(&path.display().to_string())))
    };
    let mut file = File::open(path).map_err(failed)?;
    let (mut block, mut shown) = (vec![0; 1 << 16], Answer::default());
    while !out.closed() {
        let length = match file.read(&mut block) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        shown.write(out, block.get(..length).unwrap_or_default())?;
    }
    shown.finish(out)
}

/// The file that `run --output` names: whether it can be one is seen before a run is spent on it.
pub(super) fn answer_file(path: &Path) -> Result<PathBuf, ApiError> {
    let path = absolute(path)?;
    let wrong = |message: &str| {
        let shown = clean::line(&path.display().to_string());
        Err(ApiError::new(ErrorKind::InvalidParams, format!("the answer cannot be written to {shown}: {message}"))
            .at("--output"))
    };
    if path.file_name().is_none() || path.is_dir() {
        return wrong("it is a folder");
    }
    if !path.parent().is_some_and(Path::is_dir) {
        return wrong("its folder does not exist");
    }
    Ok(path)
}

/// Writes the answer of a run that is done to a file, which appears when it is complete.
pub(super) async fn write_answer(client: &Client, run_id: RunId, path: &Path) -> Result<(), ApiError> {
    let run = client.get_run(run_id).await?;
    let failed = |error: std::io::Error| {
        let shown = clean::line(&path.display().to_string());
        ApiError::new(ErrorKind::Io, format!("failed to write the answer to {shown}: {error}"))
            .hint(format!("`ostler export {run_id} --format txt` writes it again"))
    };
    let file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    let mut file = BufWriter::new(file);
    if !answer::copy(client, &run, &mut |piece| file.write_all(piece).map_err(failed)).await? {
        return Err(ApiError::new(ErrorKind::NotFound, format!("run {run_id} gave no answer")));
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.persist(path).map_err(|error| failed(error.error)).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_form_follows_the_ending_unless_it_is_named() {
        let form = |format: Option<&str>, output: Option<&str>| {
            let arguments = Arguments {
                run: "1a2b".to_owned(),
                format: format.map(str::to_owned),
                output: output.map(PathBuf::from),
                force: false,
            };
            arguments.format()
        };
        assert_eq!(form(None, None), ExportFormat::Md);
        assert_eq!(form(None, Some("-")), ExportFormat::Md);
        assert_eq!(form(None, Some("a/b.jsonl")), ExportFormat::Jsonl);
        assert_eq!(form(None, Some("b.pdf")), ExportFormat::Md);
        assert_eq!(form(Some("txt"), Some("b.json")), ExportFormat::Txt);
    }

    #[test]
    fn a_file_for_the_answer_must_be_possible() {
        let folder = tempfile::tempdir().unwrap();
        assert!(answer_file(&folder.path().join("answer.txt")).is_ok());
        for wrong in [folder.path().to_path_buf(), folder.path().join("none/answer.txt"), PathBuf::from("/")] {
            assert_eq!(answer_file(&wrong).unwrap_err().kind, ErrorKind::InvalidParams, "{}", wrong.display());
        }
    }
}
