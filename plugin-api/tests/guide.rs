//! The plugin guide names each word of the vocabularies, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ostler_plugin::vocabulary::{facts, failures, features, notices, tools};

const GUIDE: &str = include_str!("../../docs/plugins.md");

/// The words of the table below a heading, in their order.
fn table(heading: &str) -> Vec<&'static str> {
    let (_, section) = GUIDE.split_once(&format!("\n### {heading}\n")).expect("the heading is there");
    let section = section.split("\n#").next().unwrap_or_default();
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(word, _)| word).collect()
}

#[test]
fn the_guide_lists_every_word() {
    assert_eq!(table("Features"), features::ALL);
    assert_eq!(table("Tools"), tools::ALL);
    assert_eq!(table("Notices"), notices::ALL);
    assert_eq!(table("Failures"), failures::ALL);
    assert_eq!(table("Facts"), facts::ALL);
}
