//! Tables of documents whose cells tests measure or copy. A row is found by its first cell; what
//! stands behind the cells of the test is written by hand and stays.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The cells of a row: the first one names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The first cell.
    pub name: String,
    /// The cells after it.
    pub cells: Vec<String>,
}

impl Row {
    /// A row with these cells.
    #[must_use]
    pub fn new(name: &str, cells: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            cells: cells.iter().map(|&cell| cell.to_owned()).collect(),
        }
    }
}

/// Checks that a document has these rows with these cells. With `UPDATE_DOCS=1` it writes the cells
/// instead.
///
/// # Errors
/// When a row is missing or has other cells.
pub fn check(document: &str, rows: &[Row]) -> Result<()> {
    let text = read(document)?;
    let new = with_rows(&text, rows).context(document.to_owned())?;
    if is_update() {
        return write(document, &new);
    }
    for (old, new) in text.lines().zip(new.lines()) {
        ensure!(
            old == new,
            "{document} has {old}, and should have {new}; update it with UPDATE_DOCS=1"
        );
    }
    Ok(())
}

/// Publishes measured cells with `UPDATE_DOCS=1`. Otherwise it checks only that the rows exist: no
/// test asserts a speed.
///
/// # Errors
/// When a row is missing.
pub fn publish(document: &str, rows: &[Row]) -> Result<()> {
    let text = read(document)?;
    let new = with_rows(&text, rows).context(document.to_owned())?;
    if is_update() {
        write(document, &new)?;
    }
    Ok(())
}

/// The rows of the table below a heading, without the two lines of its head.
///
/// # Errors
/// When the document can't be read or has no such table.
pub fn table(document: &str, heading: &str) -> Result<Vec<Row>> {
    let text = read(document)?;
    let rows = rows_below(&text, heading);
    ensure!(!rows.is_empty(), "{document} has no table below {heading}");
    Ok(rows)
}

fn rows_below(text: &str, heading: &str) -> Vec<Row> {
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let table = lines.by_ref().skip_while(|line| !line.starts_with('|'));
    table
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .filter_map(|line| {
            let mut cells = cells(line).into_iter();
            Some(Row {
                name: cells.next()?,
                cells: cells.collect(),
            })
        })
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    let cells = inner.split('|').map(|cell| cell.trim().to_owned());
    cells.collect()
}

/// The text with these rows in place of those of the same names.
fn with_rows(text: &str, rows: &[Row]) -> Result<String> {
    let mut text = text.to_owned();
    for Row { name, cells: new } in rows {
        let begins = format!("| {name} |");
        let mut found = text.lines().filter(|line| line.starts_with(&begins));
        let old = found.next().with_context(|| format!("no row {name:?}"))?;
        ensure!(found.next().is_none(), "two rows {name:?}");
        let mut all = cells(old);
        ensure!(all.len() > new.len(), "too few cells: {old}");
        all[1..=new.len()].clone_from_slice(new);
        let line = format!("| {} |", all.join(" | "));
        text = text.replace(&format!("{old}\n"), &format!("{line}\n"));
    }
    Ok(text)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

fn path(document: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(document)
}

fn read(document: &str) -> Result<String> {
    fs::read_to_string(path(document)).with_context(|| document.to_owned())
}

fn write(document: &str, text: &str) -> Result<()> {
    fs::write(path(document), text).with_context(|| document.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "## A\n\n| what | lost | do |\n|---|---|---|\n| cut | 9 s | BFD |\n\
                        | kill | ? | |\n\nText.\n\n## B\n\n| x |\n|---|\n| y |\n";

    #[test]
    fn cells_are_replaced_and_those_behind_them_stay() {
        let new = with_rows(TEXT, &[Row::new("cut", &["0.3 s"])]).expect("a row");
        assert!(new.contains("\n| cut | 0.3 s | BFD |\n"), "{new}");
        assert!(with_rows(TEXT, &[Row::new("cu", &["0.3 s"])]).is_err());
        assert!(with_rows(TEXT, &[Row::new("cut", &["1", "2", "3"])]).is_err());
    }

    #[test]
    fn a_table_is_read_below_its_heading() {
        let rows = rows_below(TEXT, "## A");
        assert_eq!(rows[0], Row::new("cut", &["9 s", "BFD"]));
        assert_eq!(rows.len(), 2);
        assert_eq!(rows_below(TEXT, "## B"), [Row::new("y", &[])]);
        assert!(rows_below(TEXT, "## C").is_empty());
    }
}
