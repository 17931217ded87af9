//! Output of the demo: on a terminal the table is updated in place, otherwise tables follow each
//! other.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use super::tor::Table;
use crate::cli::output::{Style, table};

#[derive(Debug)]
pub(super) struct Screen {
    style: Style,
    terminal: bool,
    /// Lines of the table at the bottom of the screen, which the next one replaces.
    drawn: usize,
    steps: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            style: Style::stdout(),
            terminal: stdout().is_terminal(),
            drawn: 0,
            steps: 0,
        }
    }

    /// Whether to pause after each step.
    pub(super) const fn is_interactive(&self) -> bool {
        self.terminal
    }

    pub(super) fn title(&self, port: u16) {
        self.print(&format!(
            "{}\n{}",
            self.style
                .bold("ferrolb: load-balancer addresses for bare-metal Kubernetes"),
            self.style.dim(&format!(
                "A router (AS 64513, 127.0.0.1:{port}) and three nodes (AS 64512). The table is \
                 what the router received."
            ))
        ));
    }

    /// Where the demo is shown too.
    pub(super) fn page(&self, url: &str) {
        let note = self.style.dim("(the demo begins when the page is open)");
        self.print(&format!("Open {}   {note}", self.style.bold(url)));
    }

    pub(super) fn step(&mut self, text: &str) {
        self.steps += 1;
        self.drawn = 0;
        self.print(&format!(
            "\n{} {}",
            self.style.bold(&format!("{}.", self.steps)),
            self.style.bold(text)
        ));
    }

    pub(super) fn table(&mut self, paths: &Table) {
        if self.terminal && self.drawn > 0 {
            // Clear from the first line of the table.
            self.print_raw(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        // One line per path, to fit narrow terminals.
        let rows = paths.iter().flat_map(|(prefix, paths)| {
            paths.iter().enumerate().map(move |(index, (node, path))| {
                let first = if index == 0 {
                    prefix.to_string()
                } else {
                    String::new()
                };
                let next_hop = path
                    .next_hop
                    .map(|address| address.to_string())
                    .unwrap_or_default();
                vec![
                    first,
                    format!("{next_hop} ({node})"),
                    path.communities.join(" "),
                ]
            })
        });
        let text = if paths.is_empty() {
            "(the router has no routes)".to_owned()
        } else {
            table(&["PREFIX", "NEXT HOP", "COMMUNITIES"], rows)
        };
        self.drawn = text.lines().count();
        let indented: Vec<String> = text.lines().map(|line| format!("   {line}")).collect();
        self.print(&indented.join("\n"));
    }

    pub(super) fn done(&mut self, elapsed: Duration) {
        self.drawn = 0;
        self.print(&format!(
            "   {} after {} ms",
            self.style.green("✓ routes received"),
            elapsed.as_millis()
        ));
    }

    pub(super) fn note(&self, text: &str) {
        self.print(&format!("   {}", self.style.dim(text)));
    }

    pub(super) fn end(&self) {
        self.print(&format!(
            "\n{} Your own manifests: {}   A node's daemon on them: {}",
            self.style.green("Demo finished."),
            self.style.bold("ferrolb plan -f DIR"),
            self.style.bold("ferrolb run --manifests DIR")
        ));
    }

    fn print(&self, text: &str) {
        self.print_raw(&format!("{text}\n"));
    }

    /// A closed standard output is not an error.
    fn print_raw(&self, text: &str) {
        let mut out = stdout().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}
