//! A configuration while it is written, line by line.

use crate::core::printable::printable;
use crate::core::router_config::needs::{Needs, Variable, reference};

/// Columns of a comment.
const COLUMNS: usize = 110;

/// A configuration while it is written.
#[derive(Debug)]
pub(super) struct Page {
    /// What begins a comment.
    comment: &'static str,
    text: String,
}

impl Page {
    pub(super) fn new(comment: &'static str) -> Self {
        Self {
            comment,
            text: String::new(),
        }
    }

    /// A statement. It consists of numbers, addresses, symbols and references to variables only:
    /// any other text of an object could contain statements of its own.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A statement, if there is something to state.
    pub(super) fn line_if(&mut self, line: Option<String>) {
        if let Some(line) = line {
            self.line(line);
        }
    }

    /// A comment with any text, in lines of [`COLUMNS`].
    pub(super) fn note(&mut self, text: impl AsRef<str>) {
        self.note_at("", text);
    }

    /// A comment at the indentation of the statements that follow.
    pub(super) fn note_at(&mut self, indent: &str, text: impl AsRef<str>) {
        let text = printable(text.as_ref());
        let begin = format!("{indent}{}", self.comment);
        let mut line = begin.clone();
        for word in text.split(' ') {
            let is_long = line.len() + word.len() >= COLUMNS && line.len() > begin.len();
            if is_long {
                self.line(&line);
                line.clone_from(&begin);
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    /// A comment of one line, to be copied.
    pub(super) fn example(&mut self, text: impl AsRef<str>) {
        let text = printable(text.as_ref());
        self.line(format!("{}     {text}", self.comment));
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// What every configuration begins with. `first` are the lines about the syntax.
    pub(super) fn header(&mut self, needs: &Needs, first: &[&str]) {
        for line in first {
            self.note(line);
        }
        let routers: Vec<String> = needs.routers.iter().map(ToString::to_string).collect();
        self.note(format!(
            "The sessions of the router {} (AS {}) with the nodes of a cluster, by \
             ferrolb router-config.",
            routers.join(", "),
            needs.asn_text()
        ));
        self.variables(&needs.variables);
        for missing in &needs.left_out {
            self.note(format!("NOT CONFIGURED: {missing}"));
        }
        for remark in &needs.remarks {
            self.note(format!("Note: {remark}"));
        }
        self.blank();
    }

    fn variables(&mut self, variables: &[Variable]) {
        if variables.is_empty() {
            return;
        }
        self.note("Replace these before you load it:");
        for Variable {
            name,
            meaning,
            command,
        } in variables
        {
            self.note(format!("{}: {meaning}", reference(name)));
            if let Some(command) = command {
                self.example(format!("export {name}=\"$({command})\""));
            }
        }
        let names: Vec<String> = variables.iter().map(|v| reference(&v.name)).collect();
        self.example(format!("envsubst '{}' < THIS-FILE", names.join(" ")));
    }
}
