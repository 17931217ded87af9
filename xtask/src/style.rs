//! Rules of CONTRIBUTING.md on texts that no other tool checks: the length of lines and files, and
//! words that say too little.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::files::files;
use crate::step::root;

/// Columns of a line of source.
const SOURCE_COLUMNS: usize = 100;

/// Columns of a line of a document, tables and addresses apart.
const DOCUMENT_COLUMNS: usize = 120;

/// Lines of a file of source.
const FILE_LINES: usize = 700;

/// Words that leave open what happens or who acts, and what to write instead.
const WORDS: &[(&[&str], &str)] = &[
    (
        &["told", "tell", "tells", "telling"],
        "name the act: send, announce, log, report, return",
    ),
    (&["untold"], "suppressed"),
    (&["heard", "hears"], "received"),
    (&["farewell"], "shutdown"),
    (&["anew"], "again, or new"),
    (
        &["whoever", "nobody", "somebody"],
        "name the subject: the caller, the operator, no peer, another node",
    ),
    (&["mended"], "resolved, or fixed"),
    (&["shall", "ought"], "must, or should"),
];

/// Names that programs read, and that must not change.
const STABLE: &[&str] = &["\"stood-still\"", "\"untold\""];

/// Files in which all these are allowed: this list, and texts that are not ours.
const EXEMPT: &[&str] = &[
    "xtask/src/style.rs",
    "Cargo.lock",
    "deny.toml",
    // Output of tcpdump.
    "interop-tests/src/lan/capture.rs",
];

/// Checks every file of the repository.
///
/// # Errors
/// With every line that breaks a rule.
pub(crate) fn check() -> Result<()> {
    let mut found = Vec::new();
    for file in files(root())? {
        let shown = file
            .strip_prefix(root())
            .unwrap_or(&file)
            .display()
            .to_string();
        let Some(kind) = Kind::of(&shown).filter(|_| !EXEMPT.contains(&shown.as_str())) else {
            continue;
        };
        let text = fs::read_to_string(&file).with_context(|| shown.clone())?;
        found.extend(broken(kind, &text).map(|rule| format!("{shown}:{rule}")));
    }
    ensure!(
        found.is_empty(),
        "against CONTRIBUTING.md, Style:\n  {}",
        found.join("\n  ")
    );
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Source,
    Document,
    /// Manifests and scripts: their lines may be as long as they have to be.
    Other,
}

impl Kind {
    fn of(file: &str) -> Option<Self> {
        // Recorded outputs and octets.
        if file
            .split('/')
            .any(|part| part == "fixtures" || part == "snapshots")
        {
            return None;
        }
        match Path::new(file).extension()?.to_str()? {
            "rs" => Some(Self::Source),
            "md" => Some(Self::Document),
            "toml" | "yaml" | "sh" => Some(Self::Other),
            _ => None,
        }
    }

    fn columns(self) -> usize {
        match self {
            Self::Source => SOURCE_COLUMNS,
            Self::Document => DOCUMENT_COLUMNS,
            Self::Other => usize::MAX,
        }
    }
}

/// `line: what is wrong` of each line that breaks a rule.
fn broken(kind: Kind, text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().count();
    let long_file = (kind == Kind::Source && lines > FILE_LINES)
        .then(|| format!("{lines}: a file has at most {FILE_LINES} lines: split it"));
    let lines = text.lines().enumerate();
    lines
        .flat_map(move |(index, line)| {
            let number = index + 1;
            let columns = line.chars().count();
            // A row of a table and an address can't be broken.
            let fixed = line.starts_with('|') || line.contains("://");
            let long = (columns > kind.columns() && !fixed)
                .then(|| format!("{number}: {columns} columns, at most {}", kind.columns()));
            long.into_iter().chain(
                vague(line).map(move |(word, instead)| format!("{number}: \"{word}\": {instead}")),
            )
        })
        .chain(long_file)
}

/// The words of the line that say too little, and what to write instead.
fn vague(line: &str) -> impl Iterator<Item = (&str, &'static str)> {
    let stable = STABLE.iter().any(|name| line.contains(name));
    line.split(|c: char| !c.is_alphanumeric())
        .filter(move |_| !stable)
        .filter_map(|word| {
            let lower = word.to_lowercase();
            let (_, instead) = WORDS
                .iter()
                .find(|(words, _)| words.contains(&lower.as_str()))?;
            Some((word, *instead))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_too_long_are_found_unless_they_can_not_be_broken() {
        let long = "a".repeat(101);
        assert_eq!(broken(Kind::Source, &long).count(), 1);
        assert_eq!(broken(Kind::Document, &long).count(), 0);
        assert_eq!(broken(Kind::Document, &"a".repeat(121)).count(), 1);
        assert_eq!(
            broken(Kind::Document, &format!("| {long}{long} |")).count(),
            0
        );
        assert_eq!(broken(Kind::Source, &"a\n".repeat(701)).count(), 1);
    }

    #[test]
    fn words_that_say_too_little_are_found_in_names_and_sentences() {
        let found: Vec<_> =
            broken(Kind::Source, "// The peer is Told.\nfn tell_peer() {}").collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("1: \"Told\": name the act"),
            "{found:?}"
        );
        assert_eq!(vague("Tellurium is foretold in storytelling").count(), 0);
    }
}
