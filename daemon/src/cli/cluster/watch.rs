//! `--watch`: reads the cluster again and again, and prints what changed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::Answer;
use super::read::{Reader, Seen};
use crate::cli::Output;
use crate::cli::output::{json_line, try_print};
use crate::core::printable::printable;

/// Time between two reads. Each lists what decisions depend on.
const INTERVAL: Duration = Duration::from_secs(5);

/// The parts of an answer, by name.
pub(super) type Lines = BTreeMap<String, Line>;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// What is printed when it changes. Times are no part of it.
    pub(super) text: String,
    /// The same for programs.
    pub(super) json: Value,
}

impl Line {
    pub(super) fn new(text: String, value: &impl serde::Serialize) -> Result<Self> {
        Ok(Self {
            text,
            json: serde_json::to_value(value)?,
        })
    }
}

/// Prints changes until standard output is closed. `first` is printed already, except as JSON. An
/// API server that doesn't answer is reported once, and asked again.
pub(super) async fn watch(
    reader: &mut Reader<'_>,
    first: &Seen,
    output: Output,
    answer: &impl Answer,
) -> Result<()> {
    let mut known = answer.lines(first)?;
    if output == Output::Json {
        for line in known.values() {
            if !json_line(&line.json)? {
                return Ok(());
            }
        }
    }
    let mut failing = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let seen = match reader.read().await {
            Ok(seen) => seen,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    eprintln!("ferrolb: {}", printable(&format!("{error:#}")));
                }
                continue;
            }
        };
        if std::mem::take(&mut failing) {
            eprintln!("ferrolb: the API server answers again");
        }
        let lines = answer.lines(&seen)?;
        for change in changes(&known, &lines) {
            let open = match (output, change) {
                (Output::Table, (key, Some(line))) => {
                    let text = format!("{key}  {}", line.text);
                    try_print(&format!("{}\n", printable(text.trim_end())))?
                }
                (Output::Table, (key, None)) => {
                    try_print(&format!("{}  no more\n", printable(key)))?
                }
                (Output::Json, (_, Some(line))) => json_line(&line.json)?,
                (Output::Json, (key, None)) => json_line(&json!({ "removed": key }))?,
            };
            if !open {
                return Ok(());
            }
        }
        known = lines;
    }
}

/// What is new or different, and what is gone.
fn changes<'a>(old: &'a Lines, new: &'a Lines) -> Vec<(&'a str, Option<&'a Line>)> {
    let differs = |(key, line): &(&String, &Line)| {
        let before = old.get(*key);
        before.is_none_or(|before| before.text != line.text)
    };
    let changed = new.iter().filter(differs);
    let changed = changed.map(|(key, line)| (key.as_str(), Some(line)));
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    changed
        .chain(gone.map(|key| (key.as_str(), None)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[(&str, &str, u64)]) -> Lines {
        let lines = texts.iter().map(|(key, text, since)| {
            let line = Line::new((*text).to_owned(), &json!({ "since": since })).expect("JSON");
            ((*key).to_owned(), line)
        });
        lines.collect()
    }

    #[test]
    fn only_lines_whose_text_differs_are_changes() {
        let old = lines(&[("a", "up", 1), ("b", "up", 1), ("c", "up", 1)]);
        let new = lines(&[("a", "up", 2), ("b", "down", 2), ("d", "up", 2)]);
        let found = changes(&old, &new);
        let found: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|(key, line)| (*key, line.map(|line| line.text.as_str())))
            .collect();
        assert_eq!(found, [("b", Some("down")), ("d", Some("up")), ("c", None)]);
        assert!(changes(&old, &old).is_empty());
    }
}
