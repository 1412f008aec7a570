//! The results, as a file that runs merge into and as a page.

use super::{
    cases,
    fixture::{State, Verdict},
    release::Release,
};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

/// The cell of a release that could not be installed.
pub(crate) const INSTALLATION: &str = "installation";

/// By CLI, version and case.
#[derive(Clone, Default)]
pub(crate) struct Results(BTreeMap<String, BTreeMap<String, BTreeMap<String, Verdict>>>);

impl Results {
    /// The results of earlier runs; none if there is no file.
    pub(crate) fn read(file: Option<&Path>) -> Self {
        let Some(text) = file.and_then(|file| fs::read_to_string(file).ok()) else { return Self::default() };
        Self(serde_json::from_str(&text).unwrap_or_else(|error| panic!("the results cannot be read: {error}")))
    }

    pub(crate) fn write(&self, file: &Path) {
        let draft = file.with_extension("draft");
        fs::write(&draft, serde_json::to_string_pretty(&self.0).unwrap()).unwrap();
        fs::rename(draft, file).unwrap();
    }

    /// Adds a verdict. A failed installation is forgotten once the release is there.
    pub(crate) fn put(&mut self, release: &Release, case: &str, verdict: Verdict) {
        let versions = self.0.entry(release.cli.to_owned()).or_default();
        let cells = versions.entry(release.version.clone()).or_default();
        cells.remove(INSTALLATION);
        cells.insert(case.to_owned(), verdict);
    }

    /// The state of a cell.
    pub(crate) fn state(&self, release: &Release, case: &str) -> Option<State> {
        self.0.get(release.cli)?.get(&release.version)?.get(case).map(|verdict| verdict.state)
    }

    /// The number of cells of these releases that have no verdict.
    pub(crate) fn missing(&self) -> usize {
        let releases = self.0.iter().flat_map(|(cli, versions)| versions.values().map(move |cells| (cli, cells)));
        releases.map(|(cli, cells)| cases::of(cli).filter(|case| !cells.contains_key(case.name)).count()).sum()
    }

    fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.0.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values)
    }

    pub(crate) fn cells(&self) -> usize {
        self.verdicts().count()
    }

    pub(crate) fn count(&self, state: State) -> usize {
        self.verdicts().filter(|verdict| verdict.state == state).count()
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut page = format!(
            "# Compatibility\n\nHow Ostler works with releases of codex and claude. Each release was installed from npm and run through the host against\n\
             a scripted model server on loopback. Of {} cells, {} work, {} are degraded and {} are blocked as declared, {} are wrong.\n\
             `.ci/run compatibility` (see `tests/compatibility`) writes this page.\n\n\
             | mark | |\n|---|---|\n\
             | ✓ | works |\n\
             | d | degraded: the option has no effect, and the run or the list of capabilities says so |\n\
             | b | blocked: the run is refused, with the reason |\n\
             | **X** | wrong: the option has no effect, and nothing says so |\n\n\
             \"By the CLI alone\": without a back end of the host's sandbox, which an operator has to allow (`allow_unenforced` in\n\
             `[policy]`). In all other cases the host sandboxes the run.\n",
            self.cells(),
            self.count(State::Works),
            self.count(State::Degraded),
            self.count(State::Blocked),
            self.count(State::Wrong),
        );
        match self.missing() {
            0 => {}
            count => {
                let _ = write!(page, "\nThe results are incomplete: {count} cells, which are empty, were not tried.\n");
            }
        }
        for (cli, versions) in &self.0 {
            self.table(cli, versions, &mut page);
        }
        page.push_str(
            "\n## Behaviour of the CLIs\n\n\
             - A session that is resumed without a model keeps the model of its last turn (claude).\n\
             - codex reports no tool use for some commands that its own sandbox refuses; the model gets their output.\n\
             - claude asks again without streaming when a stream breaks off: the text until then is already printed, and a warning\n  \
             says so.\n",
        );
        page
    }

    fn table(&self, cli: &str, versions: &BTreeMap<String, BTreeMap<String, Verdict>>, page: &mut String) {
        let mut order: Vec<&String> = versions.keys().collect();
        order.sort_by_key(|version| numbers(version));
        let _ = write!(page, "\n## {cli}\n\n| |");
        for version in &order {
            let _ = write!(page, " {version} |");
        }
        let _ = write!(page, "\n|---|{}\n", "---|".repeat(order.len()));
        let mut notes: Vec<(String, String)> = Vec::new();
        for case in cases::of(cli) {
            let _ = write!(page, "| {} |", case.name);
            for version in &order {
                let cell = versions.get(*version).and_then(|cells| cells.get(case.name));
                let mark = match cell.map(|cell| cell.state) {
                    None => "",
                    Some(State::Works) => "✓",
                    Some(State::Degraded) => "d",
                    Some(State::Blocked) => "b",
                    Some(State::Wrong) => "**X**",
                };
                let _ = write!(page, " {mark} |");
                if let Some(cell) = cell.filter(|cell| cell.state != State::Works) {
                    let note = format!("{} ({mark})", cell.note.replace('|', "\\|"));
                    match notes.iter_mut().find(|(about, text)| about.ends_with(case.name) && *text == note) {
                        Some((about, _)) => *about = format!("{version}, {about}"),
                        None => notes.push((format!("{version}: {}", case.name), note)),
                    }
                }
            }
            page.push('\n');
        }
        if !notes.is_empty() {
            let _ = write!(page, "\n| release: case | reason |\n|---|---|\n");
            for (about, text) in notes {
                let _ = writeln!(page, "| {about} | {text} |");
            }
        }
    }
}

/// The numbers of a version, by which versions are ordered.
fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-']).map(|part| part.parse().unwrap_or(0)).collect()
}
