//! Findings for people.

use crate::cli::output::Style;
use crate::core::overview::{Finding, Gravity};
use crate::core::printable::printable;

/// The maximum number of objects in a line.
pub(super) const OBJECTS: usize = 4;

/// A finding for people, with its command on a line of its own.
pub(super) fn finding_text(finding: &Finding, style: Style) -> String {
    let named = finding.objects.iter().take(OBJECTS);
    let named: Vec<&str> = named.map(String::as_str).collect();
    let more = match finding.objects.len().saturating_sub(OBJECTS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let code = match finding.severity {
        Gravity::Wrong => style.red(finding.code.name()),
        Gravity::Warning => style.yellow(finding.code.name()),
    };
    let text = format!("{}{more}: {}", named.join(", "), finding.text);
    let mut text = format!("{code}  {}\n", printable(&text));
    if let Some(command) = &finding.command {
        text += &format!("    $ {}\n", printable(command));
    }
    text
}
