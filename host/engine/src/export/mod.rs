//! `export_run`: a run as a file, to read or to work with.
//!
//! Events are read in pages, redacted once more by the rules of today ([`rewrite`]) and written at once, so that a run
//! of any length takes little memory. The file is a temporary one beside its place (0600) and appears there when it is
//! complete; nothing is left of one that fails. Which places there are, [`target`] says.

mod markdown;
mod open_markup;
mod rewrite;
mod target;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::redactors::Redactors;
use crate::setup::CurrentConfig;
use crate::setup::decide::plugin_folder;
use ostler_config::Paths;
use ostler_private_files::create_private_dir;
use ostler_protocol::methods::{ExportRunParams, ExportRunResult};
use ostler_protocol::{ApiError, Artifact, ArtifactId, ErrorKind, Event, ExportFormat, Output, RunId, RunRecord};
use ostler_redaction::RunRedactor;
use ostler_storage::{Durability, ReadLimit, Reader, Storage, StorageError, StorageErrorKind};
use ostler_test_hooks::clock;

use markdown::Page;
use rewrite::Rewriter;
use target::{Occupied, Target};

/// Temporary files of exports, by which those of a host that was killed are known.
const TEMPORARY: (&str, &str) = (".ostler-export-", ".part");

/// Why a file was not written.
enum Failure {
    Storage(StorageError),
    Io(io::Error),
    /// Retention has deleted the run meanwhile.
    Gone,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes runs to files.
#[derive(Debug)]
pub struct Exporter {
    storage: Storage,
    config: CurrentConfig,
    redactors: Redactors,
    paths: Paths,
}

impl Exporter {
    pub(crate) const fn new(storage: Storage, config: CurrentConfig, redactors: Redactors, paths: Paths) -> Self {
        Self { storage, config, redactors, paths }
    }

    /// Writes a run to a file, and records that file as an artifact of the run, unless it is transient. Of a run that has
    /// not ended, what there is so far. A `remote` caller replaces only files that an earlier export has written.
    ///
    /// # Errors
    /// `NOT_FOUND` for a run that there is not; `CONFLICT` for a file that exists, or an answer where there is none;
    /// `POLICY_DENIED` for a file that a remote caller may not replace; `INVALID_PARAMS` for a path that cannot be; `IO`.
    pub fn export(&self, params: &ExportRunParams, remote: bool) -> Result<ExportRunResult, ApiError> {
        check_transient(params, remote)?;
        let run = self.storage.read(|reader| reader.run(params.run_id))?;
        let mut run = run.ok_or_else(|| ApiError::not_found("run", params.run_id))?;
        let redactor = self.redactors.for_data();
        redact_record(&redactor, &mut run);
        if params.format == ExportFormat::Txt {
            has_answer(&run)?;
        }
        let target = self.target(params, remote)?;
        let failed = |failure| match failure {
            Failure::Storage(error) => ApiError::from(error),
            Failure::Gone => ApiError::not_found("run", params.run_id),
            Failure::Io(error) if error.kind() == io::ErrorKind::AlreadyExists => taken(&target.path),
            Failure::Io(error) => {
                ApiError::new(ErrorKind::Io, format!("failed to write {}: {error}", target.path.display()))
            }
        };
        let file = self.write(params, &run, redactor, &target).map_err(failed)?;
        if params.transient {
            let (path, bytes) = target.leave(file).map_err(Failure::Io).map_err(failed)?;
            return Ok(ExportRunResult { path, artifact_id: None, bytes });
        }
        let bytes = target.persist(file).map_err(Failure::Io).map_err(failed)?;
        let artifact = Artifact {
            artifact_id: ArtifactId::generate(),
            kind: params.format.name().to_owned(),
            path: target.path.clone(),
            bytes,
            created_at: clock::now(),
        };
        let (run_id, kept, record) = (params.run_id, target.kept, artifact.clone());
        let write = self.storage.write_urgent(Durability::Full, move |tx| tx.insert_artifact(run_id, &record, kept));
        if let Err(error) = write.wait() {
            // A file that nothing names would stay for ever.
            target.remove();
            return Err(error.into());
        }
        Ok(ExportRunResult { path: target.path, artifact_id: Some(artifact.artifact_id), bytes })
    }

    /// The folder of exports that no path was given for.
    fn folder(&self) -> PathBuf {
        let configured = self.config.load().config.storage.exports.clone();
        configured.unwrap_or_else(|| self.paths.data_dir.join("exports"))
    }

    /// Removes what a host that was killed while it exported has left in the exports folder, and what the caller of a
    /// transient export has.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let of_export = |name: &str| name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1);
            if name.to_str().is_some_and(of_export) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn target(&self, params: &ExportRunParams, remote: bool) -> Result<Target, ApiError> {
        let io = |error: &dyn std::fmt::Display| ApiError::new(ErrorKind::Io, error.to_string());
        let Some(path) = &params.path else {
            let folder = self.folder();
            create_private_dir(&folder).map_err(|error| io(&error))?;
            let name = format!("{}.{}", params.run_id, params.format.name());
            return Target::kept(&folder, &name).map_err(|error| io(&error));
        };
        let (target, occupied) = Target::named(path, params.overwrite, &self.own_folders())?;
        if remote && occupied == Occupied::File && !self.storage.read(|reader| reader.is_artifact(&target.path))? {
            let message = format!("{} was not written by an export, and is not replaced over TCP", path.display());
            return Err(ApiError::new(ErrorKind::PolicyDenied, message)
                .at("/path")
                .hint("name another file, or ask for it over the unix socket"));
        }
        Ok(target)
    }

    /// The folders in which only the host writes, without links.
    fn own_folders(&self) -> Vec<PathBuf> {
        let paths = &self.paths;
        let config = paths.config_file.parent().map(Path::to_owned);
        let plugins = plugin_folder(&self.config.load().config.plugins, paths).to_owned();
        let own = paths.own_folders().map(PathBuf::clone).into_iter();
        own.chain([paths.plugins_dir.clone(), plugins])
            .chain(config)
            .chain(paths.home.clone())
            .map(|folder| folder.canonicalize().unwrap_or(folder))
            .collect()
    }

    fn write(
        &self,
        params: &ExportRunParams,
        run: &RunRecord,
        redactor: RunRedactor,
        target: &Target,
    ) -> Result<NamedTempFile, Failure> {
        let mut out = BufWriter::with_capacity(1 << 16, target.begin()?);
        match params.format {
            ExportFormat::Txt => self.write_answer(run, redactor, &mut out)?,
            ExportFormat::Jsonl => self.each_event(params.run_id, redactor, |event| line(&mut out, event, "\n"))?,
            ExportFormat::Json => {
                out.write_all(b"{\"run\":")?;
                serde_json::to_writer(&mut out, run).map_err(io::Error::from)?;
                out.write_all(b",\"events\":[")?;
                let mut separator = "\n";
                self.each_event(params.run_id, redactor, |event| {
                    out.write_all(separator.as_bytes())?;
                    separator = ",\n";
                    line(&mut out, event, "")
                })?;
                out.write_all(b"\n]}\n")?;
            }
            ExportFormat::Md => {
                let mut page = Page::begin(&mut out, run)?;
                self.each_event(params.run_id, redactor, |event| page.event(event))?;
                page.finish(run)?;
            }
        }
        Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?)
    }

    /// Writes the answer: from its pieces, where the record may not have all of it.
    fn write_answer(&self, run: &RunRecord, redactor: RunRedactor, out: &mut impl Write) -> Result<(), Failure> {
        let mut last = None;
        if let Some(place) = &run.answer {
            self.each_event(run.summary.run_id, redactor, |event| match place.piece(event) {
                Some(piece) => {
                    last = piece.last().copied().or(last);
                    out.write_all(&piece)
                }
                None => Ok(()),
            })?;
        } else {
            let answer = run.final_text.as_deref().unwrap_or_default();
            last = answer.as_bytes().last().copied();
            out.write_all(answer.as_bytes())?;
        }
        let as_printed = run.answer.as_ref().is_some_and(|place| place.output == Output::Text);
        if !as_printed && last.is_some_and(|last| last != b'\n') {
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Every event of a run that is there now, redacted, in order.
    fn each_event(
        &self,
        run_id: RunId,
        redactor: RunRedactor,
        mut each: impl FnMut(&Event) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut rewriter = Rewriter::new(redactor);
        let mut ready = Vec::new();
        let mut seq = 0;
        // What a run says meanwhile would never come to an end.
        let newest = self.storage.read(Reader::last_cursor)?;
        'pages: loop {
            let read = self.storage.read(|reader| reader.run_events(run_id, seq, ReadLimit::default()));
            let events = read.map_err(|error| match error.kind() {
                StorageErrorKind::NotFound => Failure::Gone,
                _ => Failure::Storage(error),
            })?;
            if events.is_empty() {
                break;
            }
            for event in events {
                seq += 1;
                if event.seq != Some(seq) {
                    return Err(Failure::Gone);
                }
                if event.cursor > newest {
                    break 'pages;
                }
                rewriter.push(event, &mut ready);
                ready.drain(..).try_for_each(|event| each(&event))?;
            }
        }
        rewriter.finish(&mut ready);
        ready.iter().try_for_each(each)?;
        Ok(())
    }
}

/// A file that nothing names must be deleted by its caller, who has to be on this machine.
fn check_transient(params: &ExportRunParams, remote: bool) -> Result<(), ApiError> {
    let wrong = |message: &str| Err(ApiError::new(ErrorKind::InvalidParams, message).at("/transient"));
    match params.transient {
        true if params.path.is_some() => wrong("a transient export goes to no path"),
        true if remote => wrong("transient exports are made for callers on the unix socket"),
        _ => Ok(()),
    }
}

/// Whether there is an answer, all of it.
fn has_answer(run: &RunRecord) -> Result<(), ApiError> {
    let lost = run.answer.as_ref().map_or(0, |place| place.lost_bytes);
    let (id, status) = (run.summary.run_id, run.summary.status);
    let message = match (&run.final_text, lost) {
        (None, _) => format!("run {id} has no answer: it is {status}"),
        (Some(_), 0) => return Ok(()),
        (Some(_), lost) => format!("the answer of run {id} is not whole: {lost} bytes at its end were not kept"),
    };
    Err(ApiError::new(ErrorKind::Conflict, message).hint("export it as md, json or jsonl"))
}

/// Takes the secrets out of the texts of a record by the rules of today. Ids, times and names are left as they are.
fn redact_record(redactor: &RunRedactor, run: &mut RunRecord) {
    let clean = |text: &mut String| *text = redactor.redact(text).text.into_owned();
    clean(&mut run.summary.title);
    run.job.iter_mut().for_each(|job| clean(&mut job.title));
    run.summary.message.iter_mut().for_each(clean);
    run.final_text.iter_mut().for_each(clean);
    let documents = run.structured_output.iter_mut().chain([&mut run.payload]).chain(&mut run.warnings);
    documents.for_each(|document| _ = redactor.redact_json(document));
}

fn line(out: &mut impl Write, event: &Event, end: &str) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event).map_err(io::Error::from)?;
    out.write_all(end.as_bytes())
}

fn taken(path: &Path) -> ApiError {
    ApiError::new(ErrorKind::Conflict, format!("{} exists already", path.display()))
        .at("/path")
        .hint("name another file, or ask to overwrite it")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::test_support::{Fixture, SECRET};

    fn exporter(fixture: &Fixture) -> Exporter {
        let paths = fixture.paths();
        std::fs::create_dir_all(&paths.data_dir).unwrap();
        Exporter::new(fixture.storage.clone(), fixture.config.clone(), fixture.redactors.clone(), paths)
    }

    /// A run with this answer.
    fn ended_run(fixture: &Fixture, answer: Option<&str>) -> RunId {
        let run = fixture.insert_run("codex");
        fixture.end_run(run, clock::now(), answer);
        run
    }

    fn artifacts(fixture: &Fixture, run: RunId) -> Vec<Artifact> {
        fixture.storage.read(|reader| reader.run(run)).unwrap().unwrap().artifacts
    }

    #[test]
    fn answer_is_redacted_by_the_rules_of_today_and_recorded_as_an_artifact() {
        let fixture = Fixture::new();
        let (exporter, run) = (exporter(&fixture), ended_run(&fixture, Some(&format!("it is {SECRET}"))));
        let exported = exporter.export(&ExportRunParams::new(run, ExportFormat::Txt), false).unwrap();
        assert_eq!(std::fs::read_to_string(&exported.path).unwrap(), "it is [REDACTED:test-key]\n");
        assert_eq!(std::fs::metadata(&exported.path).unwrap().permissions().mode() & 0o777, 0o600);
        let recorded = artifacts(&fixture, run);
        assert_eq!(recorded.iter().map(|artifact| &artifact.path).collect::<Vec<_>>(), [&exported.path]);
        assert_eq!(exported.artifact_id, Some(recorded[0].artifact_id));
    }

    #[test]
    fn run_without_an_answer_cannot_be_exported_as_text_and_leaves_no_file() {
        let fixture = Fixture::new();
        let (exporter, run) = (exporter(&fixture), ended_run(&fixture, None));
        let error = exporter.export(&ExportRunParams::new(run, ExportFormat::Txt), false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(!exporter.folder().exists());
        let exported = exporter.export(&ExportRunParams::new(run, ExportFormat::Jsonl), false).unwrap();
        assert_eq!(std::fs::read_to_string(exported.path).unwrap().lines().count(), fixture.events_of(run).len());
    }

    #[test]
    fn remote_caller_replaces_only_files_that_an_export_wrote() {
        let fixture = Fixture::new();
        let (exporter, run) = (exporter(&fixture), ended_run(&fixture, Some("new")));
        let path = fixture.make_folder("out").join("answer.txt");
        std::fs::write(&path, "old").unwrap();
        let mut params = ExportRunParams { path: Some(path.clone()), ..ExportRunParams::new(run, ExportFormat::Txt) };
        let kind = |params: &ExportRunParams, remote| exporter.export(params, remote).map_err(|error| error.kind);
        assert_eq!(kind(&params, false).unwrap_err(), ErrorKind::Conflict);
        params.overwrite = true;
        assert_eq!(kind(&params, true).unwrap_err(), ErrorKind::PolicyDenied);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        kind(&params, false).unwrap();
        kind(&params, true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn no_file_is_written_into_the_hosts_own_folders() {
        let fixture = Fixture::new();
        let (exporter, run) = (exporter(&fixture), ended_run(&fixture, Some("new")));
        let plugins = fixture.make_folder("home/plugins");
        for folder in [exporter.paths.data_dir.clone(), plugins] {
            let path = Some(folder.join("answer.txt"));
            let error =
                exporter.export(&ExportRunParams { path, ..ExportRunParams::new(run, ExportFormat::Txt) }, false);
            assert_eq!(error.unwrap_err().kind, ErrorKind::InvalidParams, "{}", folder.display());
        }
        assert_eq!(artifacts(&fixture, run), []);
    }

    #[test]
    fn transient_export_is_no_artifact_and_is_swept_with_files_that_were_never_finished() {
        let fixture = Fixture::new();
        let (exporter, run) = (exporter(&fixture), ended_run(&fixture, Some("new")));
        let kept = exporter.export(&ExportRunParams::new(run, ExportFormat::Txt), false).unwrap();
        let params = ExportRunParams { transient: true, ..ExportRunParams::new(run, ExportFormat::Md) };
        let transient = exporter.export(&params, false).unwrap();
        assert_eq!((transient.artifact_id, artifacts(&fixture, run).len()), (None, 1));
        let unfinished = exporter.folder().join(format!("{}x{}", TEMPORARY.0, TEMPORARY.1));
        std::fs::write(&unfinished, "half").unwrap();
        exporter.sweep();
        assert_eq!([&kept.path, &transient.path, &unfinished].map(|path| path.exists()), [true, false, false]);
        assert_eq!(exporter.export(&params, true).unwrap_err().pointer.as_deref(), Some("/transient"));
    }
}
