//! Records a full measurement: its output next to the page that explains it, and its table in that page.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The comments around the table in the page.
const BEGIN: &str = "<!-- figures: written by `cargo bench --bench figures -- --record` -->\n";
const END: &str = "<!-- end of figures -->\n";
/// The beginning of the table in the output.
const TABLE: &str = "\n== figures\n";

/// Measures everything in a child process, and records its output.
pub(crate) fn run() {
    let own = std::env::current_exe().unwrap();
    let mut child = Command::new(own).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        output.push_str(&line);
        output.push('\n');
    }
    assert!(child.wait().unwrap().success(), "nothing was recorded");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = docs.join("performance.md");
    let text = fs::read_to_string(&page).unwrap();
    let table = output.split_once(TABLE).expect("a table").1;
    let (head, rest) = text.split_once(BEGIN).expect("the comment before the table");
    let (_, tail) = rest.split_once(END).expect("the end of the table");
    fs::write(&page, format!("{head}{BEGIN}```text\n{table}```\n{END}{tail}")).unwrap();
    fs::create_dir_all(docs.join("performance")).unwrap();
    fs::write(docs.join("performance/figures.txt"), output).unwrap();
}
