//! Splits a stream of YAML or JSON into values with bounded memory: document by document, and large
//! lists item by item.

use std::io::{self, BufRead, Cursor, Read};

use serde_json::Value;

use super::json_list::{Metered, read_object};
use crate::core::config::config_map;
use crate::core::syntax::{self, OBJECT_MAX, SyntaxError};

/// A document up to this size in octets is parsed as a whole. Larger lists are parsed item by item.
const WHOLE: usize = 1 << 20;

/// Receives each value with the first line of its document, or of its item in a large list.
pub(super) type Sink<'a> = dyn FnMut(usize, Result<Value, SyntaxError>) + 'a;

/// Reads everything. An invalid document does not hide the others.
///
/// # Errors
///
/// I/O errors of the input.
pub(super) fn read<'a>(input: impl BufRead + 'a, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut documents = Documents {
        input: Box::new(input),
        line: 0,
        text: Vec::new(),
        start: 1,
        position: Position::Document,
        divide_at: WHOLE,
        sink,
    };
    documents.run()
}

/// Where the next line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// To the current document.
    Document,
    /// To an item of a large list. Each item begins with a dash after this many spaces.
    Item(usize),
    /// To the rest of the document, which is skipped.
    Skipped,
}

struct Documents<'a, 's, 'f> {
    input: Box<dyn BufRead + 'a>,
    /// Number of the last line read.
    line: usize,
    /// Text of the current document or item.
    text: Vec<u8>,
    /// Its first line.
    start: usize,
    position: Position,
    /// Size at which the text is searched for items next. It doubles, so that a large object is not
    /// searched at each line.
    divide_at: usize,
    sink: &'s mut Sink<'f>,
}

impl Documents<'_, '_, '_> {
    fn run(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = u64::try_from(OBJECT_MAX).unwrap_or(u64::MAX);
            let mut limited = (&mut self.input).take(limit);
            if limited.read_until(b'\n', &mut line)? == 0 {
                self.end();
                return Ok(());
            }
            self.line += 1;
            if self.line == 1 {
                if let Some(encoding) = not_utf8(&line) {
                    self.report(1, format!("is encoded as {encoding}: save it as UTF-8"));
                    return Ok(());
                }
                strip_byte_order_mark(&mut line);
            }
            self.record(&line);
            if self.text.len() >= self.divide_at && self.position == Position::Document {
                self.divide()?;
            }
            if self.text.len() >= OBJECT_MAX {
                self.report(self.start, syntax::too_large());
                self.text.clear();
                self.position = Position::Skipped;
            }
        }
    }

    fn record(&mut self, line: &[u8]) {
        if let Some(rest) = after_separator(line) {
            self.end();
            self.start = self.line;
            if !rest.trim_ascii().is_empty() {
                // Keep the column of what follows the dashes, so that errors report it.
                self.text.extend_from_slice(b"   ");
                self.text.extend_from_slice(rest);
            } else {
                self.start += 1;
            }
            return;
        }
        match self.position {
            Position::Document => self.text.extend_from_slice(line),
            Position::Item(indent) => self.take_in_of_list(line, indent),
            Position::Skipped => {}
        }
    }

    /// Adds a line of a large list.
    fn take_in_of_list(&mut self, line: &[u8], indent: usize) {
        if let Some(rest) = after_dash(line, indent) {
            self.parse();
            self.start = self.line;
            self.text.extend(std::iter::repeat_n(b' ', indent + 1));
            self.text.extend_from_slice(rest);
        } else if is_within(line, indent) {
            self.text.extend_from_slice(line);
        } else {
            // Keys after the items, such as kind and metadata of the list.
            self.parse();
            self.position = Position::Skipped;
        }
    }

    /// Ends the document.
    fn end(&mut self) {
        self.parse();
        self.position = Position::Document;
        self.divide_at = WHOLE;
    }

    /// Switches to reading item by item, since the document is too large to be parsed as a whole.
    fn divide(&mut self) -> io::Result<()> {
        if self.text.trim_ascii_start().starts_with(b"{") {
            return self.divide_json();
        }
        let text = std::mem::take(&mut self.text);
        let Some((offset, indent)) = first_item(&text) else {
            // A single object, or no object at all: it may grow up to the maximum.
            self.text = text;
            self.divide_at *= 2;
            return Ok(());
        };
        self.position = Position::Item(indent);
        let last = self.line;
        let (before, items) = text.split_at(offset);
        self.line = self.start + before.iter().filter(|octet| **octet == b'\n').count() - 1;
        for line in items.split_inclusive(|octet| *octet == b'\n') {
            self.line += 1;
            self.record(line);
        }
        self.line = last;
        Ok(())
    }

    fn divide_json(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        let input = std::mem::replace(&mut self.input, Box::new(io::empty()));
        let mut input = Metered::new(Cursor::new(text).chain(input));
        let (start, sink) = (self.start, &mut *self.sink);
        let result = read_object(&mut input, &mut |value| sink(start, Ok(value)));
        if let Err(error) = result {
            if error.is_io() && !input.is_exceeded() {
                return Err(error.into());
            }
            self.emit_error(syntax::json(start, &error));
            self.position = Position::Skipped;
        }
        self.line = start - 1 + input.lines();
        self.start = self.line + 1;
        self.input = Box::new(input.into_inner());
        Ok(())
    }

    /// Parses the collected text.
    fn parse(&mut self) {
        let text = std::mem::take(&mut self.text);
        let Ok(text) = str::from_utf8(&text) else {
            self.report(
                self.start,
                "is not text in UTF-8: save it as UTF-8".to_owned(),
            );
            return;
        };
        let has_content = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
        if !text.lines().any(has_content) {
            return;
        }
        match serde_saphyr::from_str(text) {
            Ok(Value::Null) => {}
            Ok(value) => (self.sink)(self.start, Ok(value)),
            Err(error) => self.parse_json(text, &error),
        }
    }

    /// Several JSON objects in a row are not valid YAML.
    fn parse_json(&mut self, text: &str, error: &serde_saphyr::Error) {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        if let Ok(values) = values {
            for value in values {
                (self.sink)(self.start, Ok(value));
            }
            return;
        }
        let error = match config_map::lost_indentation(text) {
            Some(lost) => SyntaxError {
                line: self.start + lost.line - 1,
                message: lost.message,
                correction: lost.correction,
            },
            None => syntax::yaml(text, self.start, error),
        };
        self.emit_error(error);
    }

    fn report(&mut self, line: usize, message: String) {
        self.emit_error(SyntaxError {
            line,
            message,
            correction: None,
        });
    }

    fn emit_error(&mut self, error: SyntaxError) {
        (self.sink)(error.line, Err(error));
    }
}

/// UTF-16 has a byte order mark, or zeros between the ASCII characters of manifests.
fn not_utf8(line: &[u8]) -> Option<&'static str> {
    match line {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}

fn strip_byte_order_mark(line: &mut Vec<u8>) {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if line.starts_with(MARK) {
        line.drain(..MARK.len());
    }
}

/// What follows `---` or `...` at the start of a line, which separate documents (YAML 1.2 §9.1).
fn after_separator(line: &[u8]) -> Option<&[u8]> {
    let rest = line
        .strip_prefix(b"---")
        .or_else(|| line.strip_prefix(b"..."))?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    ends.then_some(rest)
}

/// What follows the dash of a list item.
fn after_dash(line: &[u8], indent: usize) -> Option<&[u8]> {
    let rest = line.get(indent..)?.strip_prefix(b"-")?;
    let is_indented = line.iter().take(indent).all(|octet| *octet == b' ');
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (is_indented && ends).then_some(rest)
}

/// Whether a line belongs to an item whose dash has this indentation. YAML requires further
/// indentation, except for empty lines and comments.
fn is_within(line: &[u8], indent: usize) -> bool {
    let spaces = line.iter().take_while(|octet| **octet == b' ').count();
    let rest = line.get(spaces..).unwrap_or_default();
    spaces > indent || rest.trim_ascii().is_empty() || rest.starts_with(b"#")
}

/// Offset of the first item of the top-level key `items`, and the indentation of its dash.
fn first_item(text: &[u8]) -> Option<(usize, usize)> {
    let mut offset = 0;
    let mut in_items = false;
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        if in_items {
            let indent = line.iter().take_while(|octet| **octet == b' ').count();
            if after_dash(line, indent).is_some() {
                return Some((offset, indent));
            }
            // Comments and empty lines may come first.
            in_items = is_within(line, usize::MAX);
        }
        if let Some(rest) = line.strip_prefix(b"items:") {
            in_items = rest.trim_ascii().is_empty() || rest.trim_ascii().starts_with(b"#");
        }
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests;
