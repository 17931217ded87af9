//! Prints tables, JSON and colors. Colors only on a terminal, and not if NO_COLOR is set.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use crate::core::printable::printable;

/// A table without lines, in the style of kubectl.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = LongTable::new(header).chunk(rows.into_iter().collect());
    text.truncate(text.trim_end().len());
    text
}

/// A [`table`] of any length, printed chunk by chunk. Its columns only get wider.
#[derive(Debug)]
pub(crate) struct LongTable {
    header: Option<Vec<String>>,
    widths: Vec<usize>,
}

impl LongTable {
    /// An empty table.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            header: Some(header.iter().map(|&name| name.to_owned()).collect()),
            widths: vec![0; header.len()],
        }
    }

    /// Formats the next rows.
    pub(crate) fn chunk(&mut self, rows: Vec<Vec<String>>) -> String {
        let rows = self.header.take().into_iter().chain(rows);
        let rows: Vec<Vec<String>> = rows
            .map(|row| row.iter().map(|cell| printable(cell).into()).collect())
            .collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:width$}  "))
                .collect();
            format!("{}\n", line.trim_end())
        };
        rows.iter().map(line).collect()
    }
}

/// Writes to standard output. A closed pipe (`| head`) is not an error.
///
/// # Errors
///
/// Other I/O errors.
pub(crate) fn print(text: &str) -> io::Result<()> {
    try_print(text).map(drop)
}

/// Writes to standard output. Returns whether it is still open, for callers with more output.
///
/// # Errors
///
/// Other I/O errors than a closed pipe.
pub(crate) fn try_print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Writes JSON and a newline.
///
/// # Errors
///
/// I/O errors.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(print(&text)?)
}

/// Writes JSON on one line, for programs that read a stream. Returns whether standard output is
/// still open.
///
/// # Errors
///
/// I/O errors.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<bool> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    Ok(try_print(&text)?)
}

/// A duration in its two largest units: `3d4h`, `2m5s`, `0s`.
pub(crate) fn age(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut left = time.as_secs();
    let parts = UNITS.map(|(seconds, unit)| {
        let count = left / seconds;
        left %= seconds;
        (count, unit)
    });
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts.iter().skip(first).take(2);
    let shown = shown
        .enumerate()
        .filter(|(place, (count, _))| *place == 0 || *count > 0);
    shown
        .map(|(_, (count, unit))| format!("{count}{unit}"))
        .collect()
}

/// Replaces an empty cell.
pub(crate) fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// Text styles, if colors are enabled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colors: bool,
}

impl Style {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colors: allowed && io::stdout().is_terminal(),
        }
    }

    /// Without colors.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colors: false }
    }

    fn paint(self, code: &str, text: &str) -> String {
        let text = printable(text);
        if self.colors {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into_owned()
        }
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// An error.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// A success.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// A warning.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Secondary text.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_table_has_one_header_and_its_columns_stay_aligned() {
        let mut table = LongTable::new(&["PEER", "PREFIX"]);
        let row = |peer: &str, prefix: &str| vec![peer.to_owned(), prefix.to_owned()];
        let first = table.chunk(vec![row("tor-one", "a"), row("é", "b")]);
        assert_eq!(first, "PEER     PREFIX\ntor-one  a\né        b\n");
        assert_eq!(table.chunk(vec![row("x", "c")]), "x        c\n");
        assert_eq!(table.chunk(Vec::new()), "");
    }

    #[test]
    fn cells_and_headings_contain_no_control_characters() {
        let row = || vec!["a\x1b[2J\nb".to_owned()];
        assert_eq!(table(&["N"], [row()]), "N\na\\u{1b}[2J\\nb");
        let mut long = LongTable::new(&["N"]);
        assert_eq!(long.chunk(vec![row()]), "N\na\\u{1b}[2J\\nb\n");
        let style = Style { colors: true };
        assert_eq!(style.bold("a\x1b"), "\x1b[1ma\\u{1b}\x1b[0m");
    }

    #[test]
    fn a_duration_has_at_most_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (125, "2m5s"),
            (7_200, "2h"),
            (7_205, "2h"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
