//! Mistakes in the ConfigMap: where, what is wrong, and the remedy.

use std::fmt;

use super::KEY;

/// Maximum number of mistakes that are reported at once.
const MISTAKES_MAX: usize = 20;

/// A mistake in a line of the ConfigMap's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The line of the text, from 1.
    pub line: usize,
    /// The field, such as `peers[0].hold-time`. Empty if it concerns no field.
    pub path: String,
    /// What is wrong, and what to write instead. Never a password.
    pub message: String,
}

impl Mistake {
    pub(super) fn new(line: usize, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            line,
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Mistakes with their lines, in one text.
pub(super) fn shown(mistakes: &[Mistake]) -> String {
    let listed = mistakes.iter().take(MISTAKES_MAX);
    let listed: Vec<String> = listed
        .map(|mistake| format!("line {}: {mistake}", mistake.line))
        .collect();
    let more = match mistakes.len().saturating_sub(MISTAKES_MAX) {
        0 => String::new(),
        more => format!("; and {more} more mistakes"),
    };
    format!("data.{KEY} {}{more}", listed.join("; "))
}
