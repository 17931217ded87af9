//! YAML that was pasted with lost indentation: finds what was probably meant. The names of the
//! fields say where a line belongs.

use super::fields::{
    ADVERTISEMENT, ALIASES, BFD_PROFILES, EXPRESSION, PEER, PEERS, POOLS, SECTIONS, SELECTOR,
    of_section,
};
use super::mistake::Mistake;
use super::tree::{Node, Value};

/// The field of the ConfigMap with the text.
pub(super) const KEY: &str = "config";

/// A line of a manifest whose indentation is lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostIndentation {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and how to fix it.
    pub message: String,
    /// The manifest as it was probably meant, if that is certain enough.
    pub correction: Option<String>,
}

/// The mistake of a document whose first section contains no more than its first field, because the
/// others stand on the level of the sections.
pub(super) fn misplaced(document: &Node) -> Option<Mistake> {
    let Value::Map(fields) = &document.value else {
        return None;
    };
    let mut section: Option<(&str, usize)> = None;
    let mut found: Vec<(&str, usize, (&str, usize))> = Vec::new();
    for field in fields {
        let name = field.name.as_str();
        if SECTIONS.contains(&name) {
            section = Some((name, field.line));
        } else if let Some(section) = section.filter(|(section, _)| belongs_to(name, section)) {
            found.push((name, field.line, section));
        }
    }
    let (name, line, (section, section_line)) = *found.first()?;
    let others: Vec<String> = found
        .iter()
        .skip(1)
        .map(|(name, line, _)| format!("{name} in line {line}"))
        .collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" (also {})", others.join(", ")),
    };
    let message = format!(
        "has lost its indentation: it belongs to an entry of {section} in line {section_line}, so \
         indent it further than the - of that entry{others}"
    );
    Some(Mistake::new(line, name, message))
}

fn belongs_to(field: &str, section: &str) -> bool {
    of_section(section).contains(&field) || section == POOLS && ADVERTISEMENT.contains(&field)
}

/// Finds a ConfigMap in a manifest whose text is not indented below its key, so that the manifest
/// is not valid YAML.
pub(crate) fn lost_indentation(
    manifest: &str,
    is_valid: impl Fn(&str) -> bool,
) -> Option<LostIndentation> {
    let lines: Vec<&str> = manifest.lines().map(str::trim_end).collect();
    if !lines.iter().any(|line| line.trim() == "kind: ConfigMap") {
        return None;
    }
    let is_key = |line: &&str| {
        let value = line.trim().strip_prefix(KEY);
        matches!(value, Some(":" | ": |" | ": |-" | ": >"))
    };
    let key = lines.iter().position(is_key)?;
    let indent = indentation(lines.get(key)?);
    let (head, text) = lines.split_at(key + 1);
    let first = text.iter().position(|line| !line.is_empty())?;
    let line = text.get(first)?;
    let is_section = SECTIONS
        .iter()
        .any(|section| line.trim().strip_suffix(':') == Some(section));
    if !is_section || indentation(line) > indent {
        return None;
    }
    let correction = reindented(text).filter(|text| is_valid(text));
    let correction = correction.map(|text| {
        let (head, last) = head.split_at(key);
        let last = last
            .first()
            .map_or("", |line| line.trim_end_matches([' ', '|', '-', '>']));
        let text: Vec<String> = text
            .lines()
            .map(|line| format!("{}{line}", " ".repeat(indent + 2)))
            .collect();
        format!("{}\n{last} |\n{}\n", head.join("\n"), text.join("\n"))
    });
    let message = format!(
        "is not indented further than {KEY}: | in line {}, so it is not part of its text, and the \
         fields below have lost their indentation as well: indent them",
        key + 1
    );
    Some(LostIndentation {
        line: key + 2 + first,
        message: format!("{} {message}", line.trim()),
        correction,
    })
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What the next line may continue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// The name of a section.
    Section,
    /// A field of an entry.
    Entry,
    /// A list of texts; its entries are indented this far.
    Texts(usize),
    /// A field of a BGP advertisement, or the list of them.
    Advertisement,
    /// The list of node selectors, or a field in it.
    Selector,
    /// The labels of a node selector.
    Labels,
}

/// The text of the ConfigMap with the indentation that its fields require. None if a line fits
/// nowhere, or only its indentation says where.
pub(super) fn reindented<'a>(lines: impl IntoIterator<Item = &'a &'a str>) -> Option<String> {
    let mut text = Reindented {
        lines: Vec::new(),
        section: None,
        last: Last::Section,
        in_selectors: false,
    };
    for line in lines {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            text.add(line)?;
        }
    }
    Some(text.lines.join("\n") + "\n")
}

struct Reindented<'a> {
    lines: Vec<String>,
    section: Option<&'a str>,
    last: Last,
    /// Whether the last field of the entry is `node-selectors`.
    in_selectors: bool,
}

impl<'a> Reindented<'a> {
    fn add(&mut self, line: &'a str) -> Option<()> {
        let (is_item, rest) = match line.strip_prefix("- ") {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        // Names of labels have further characters.
        let others = if self.last == Last::Labels { "./" } else { "" };
        let field = rest.split_once(':').filter(|(name, value)| {
            is_name(name, others) && (value.is_empty() || value.starts_with(' '))
        });
        let Some((name, value)) = field else {
            let Last::Texts(indent) = self.last else {
                return None;
            };
            return is_item.then(|| self.push(indent, true, rest));
        };
        let value = value.trim();
        if self.in_selectors && self.selector(is_item, name, rest, value.is_empty()) {
            return Some(());
        }
        if !is_item && value.is_empty() && SECTIONS.contains(&name) {
            self.section = Some(name);
            self.last = Last::Section;
            self.in_selectors = false;
            self.push(0, false, rest);
            return Some(());
        }
        let section = self.section?;
        if section == ALIASES && !is_item {
            self.push(2, false, rest);
            return Some(());
        }
        let of_ad = section == POOLS && ADVERTISEMENT.contains(&name);
        if of_ad && self.last != Last::Section {
            return self.field(2, is_item, name, value, Last::Advertisement);
        }
        let of_entry =
            [PEERS, POOLS, BFD_PROFILES].contains(&section) && of_section(section).contains(&name);
        let begins = self.last == Last::Section;
        if !of_entry || begins && !is_item {
            return None;
        }
        self.field(0, is_item, name, value, Last::Entry)
    }

    /// Adds a line of node selectors. Returns false if it is none: then the entry goes on, or
    /// another one begins.
    fn selector(&mut self, is_item: bool, name: &str, line: &'a str, opens: bool) -> bool {
        let indent = if is_item { 0 } else { 2 };
        if SELECTOR.contains(&name) {
            let has_labels = opens && name == "match-labels";
            self.last = if has_labels {
                Last::Labels
            } else {
                Last::Selector
            };
            self.push(2 + indent, is_item, line);
        } else if PEER.contains(&name) || SECTIONS.contains(&name) {
            return false;
        } else if self.last == Last::Labels {
            self.push(6, is_item, line);
        } else if EXPRESSION.contains(&name) {
            let has_values = opens && name == "values";
            self.last = if has_values {
                Last::Texts(6)
            } else {
                Last::Selector
            };
            self.push(4 + indent, is_item, line);
        } else {
            return false;
        }
        true
    }

    /// Adds a field of an entry whose dash is indented this far.
    fn field(
        &mut self,
        indent: usize,
        is_item: bool,
        name: &str,
        value: &str,
        kind: Last,
    ) -> Option<()> {
        let is_list = ["addresses", "cidr", "communities"].contains(&name);
        self.in_selectors = name == "node-selectors";
        self.last = match name {
            "bgp-advertisements" => Last::Advertisement,
            "node-selectors" => Last::Selector,
            _ if is_list => Last::Texts(indent + 2),
            _ => kind,
        };
        let indent = if is_item { indent } else { indent + 2 };
        // A list that begins on the line of its name.
        if let Some(first) = value.strip_prefix("- ").filter(|_| is_list) {
            self.push(indent, is_item, &format!("{name}:"));
            let Last::Texts(indent) = self.last else {
                return None;
            };
            self.push(indent, true, first.trim());
            return Some(());
        }
        let value = match (name, value) {
            // Suggestions are shown, and may be logged.
            ("password", _) => " (as above)".to_owned(),
            (_, "") => String::new(),
            (_, value) => format!(" {value}"),
        };
        self.push(indent, is_item, &format!("{name}:{value}"));
        Some(())
    }

    fn push(&mut self, indent: usize, is_item: bool, text: &str) {
        let dash = if is_item { "- " } else { "" };
        self.lines
            .push(format!("{}{dash}{text}", " ".repeat(indent)));
    }
}

/// Whether a text is a name, which may also have these other characters.
fn is_name(text: &str, others: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c) || others.contains(c);
    !text.is_empty() && text.chars().all(is_part)
}
