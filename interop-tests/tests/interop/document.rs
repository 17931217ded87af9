//! Reads and writes docs/interop.md: a table with one column per router, and a list of the rows
//! that a router can't run. A run compares its column with the page; with UPDATE_DOCS=1 it updates
//! the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::rows::GROUPS;

const PATH: &str = "docs/interop.md";
const INTRODUCTION: &str = include_str!("introduction.md");
const ROW: &str = "RFC and scenario";
const REASONS: &str = "## Why a cell is empty";

/// The results of one router.
pub(crate) struct Column {
    router: String,
    /// By row: the reason why it was not run, or none.
    cells: BTreeMap<String, Option<String>>,
}

impl Column {
    pub(crate) fn new(router: &str, version: &str) -> Self {
        Self {
            router: format!("{router} {version}"),
            cells: BTreeMap::new(),
        }
    }

    pub(crate) fn cell(&mut self, row: &str, lacks: Option<&str>) {
        self.cells.insert(row.to_owned(), lacks.map(str::to_owned));
    }

    fn product(&self) -> &str {
        self.router.split(' ').next().unwrap_or_default()
    }
}

/// Compares a router's column with the document; with UPDATE_DOCS=1 updates the document.
///
/// # Errors
/// When they differ, or the document can't be read or written.
pub(crate) fn check(column: &Column) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PATH);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut columns = read(&text);
    match columns
        .iter_mut()
        .find(|other| other.product() == column.product())
    {
        Some(other) => {
            other.router.clone_from(&column.router);
            other.cells.clone_from(&column.cells);
        }
        None => columns.push(Column {
            router: column.router.clone(),
            cells: column.cells.clone(),
        }),
    }
    columns.sort_by(|a, b| a.router.cmp(&b.router));
    let new = write(&columns)?;
    if new == text {
        return Ok(());
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, new).with_context(|| PATH.to_owned());
    }
    let differs = new
        .lines()
        .find(|line| !text.lines().any(|old| old == *line));
    ensure!(
        false,
        "{PATH} differs from the result; update it with UPDATE_DOCS=1. First different line: {}",
        differs.unwrap_or("(the page has an additional line)")
    );
    Ok(())
}

/// Reads the two tables of the page.
fn read(text: &str) -> Vec<Column> {
    let (results, reasons) = text.split_once(REASONS).unwrap_or((text, ""));
    let mut rows = table(results);
    let Some(head) = rows.next() else {
        return Vec::new();
    };
    let mut columns: Vec<Column> = head
        .iter()
        .skip(1)
        .map(|router| Column {
            router: router.clone(),
            cells: BTreeMap::new(),
        })
        .collect();
    for row in rows.skip(1) {
        for (column, cell) in columns.iter_mut().zip(row.iter().skip(1)) {
            // A row that is newer than this router's last run stays unknown.
            if cell != "?" {
                let lacks = (cell != "yes").then(String::new);
                column.cells.insert(row[0].clone(), lacks);
            }
        }
    }
    for cells in table(reasons).skip(2) {
        let [router, row, reason] = cells.as_slice() else {
            continue;
        };
        if let Some(column) = columns.iter_mut().find(|column| column.router == *router) {
            column.cells.insert(row.clone(), Some(reason.clone()));
        }
    }
    columns
}

/// The rows of a table, with its head and the line below it.
fn table(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.lines().filter(|line| line.starts_with('|')).map(cells)
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|')
        .split('|')
        .map(|cell| cell.trim().to_owned())
        .collect()
}

fn write(columns: &[Column]) -> Result<String> {
    let mut text = INTRODUCTION.to_owned();
    let routers: Vec<&str> = columns
        .iter()
        .map(|column| column.router.as_str())
        .collect();
    writeln!(text, "\n| {ROW} | {} |", routers.join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(columns.len()))?;
    let rows: Vec<&str> = GROUPS
        .iter()
        .flat_map(|group| group.rows)
        .map(|row| row.title)
        .collect();
    for row in &rows {
        write!(text, "| {row} |")?;
        for column in columns {
            let word = match column.cells.get(*row) {
                Some(None) => "yes",
                Some(Some(_)) => "–",
                None => "?",
            };
            write!(text, " {word} |")?;
        }
        writeln!(text)?;
    }
    writeln!(
        text,
        "\n{REASONS}\n\n| router | {ROW} | reason |\n|---|---|---|"
    )?;
    for column in columns {
        for row in &rows {
            if let Some(Some(reason)) = column.cells.get(*row) {
                writeln!(text, "| {} | {row} | {reason} |", column.router)?;
            }
        }
    }
    Ok(text)
}
