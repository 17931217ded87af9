//! The rows of the matrix, by the example that the router runs with, and what a router lacks.

use anyhow::Result;
use ferrolb_interop_tests::router::Kind;

use crate::{Cell, sessions};

/// Rows that one configuration of `peering-examples/` serves.
pub(crate) struct Group {
    /// Its name there.
    pub(crate) example: &'static str,
    pub(crate) rows: &'static [Row],
}

/// A scenario.
pub(crate) struct Row {
    /// As it stands in the document.
    pub(crate) title: &'static str,
    /// How many nodes it needs.
    pub(crate) nodes: u8,
    pub(crate) run: fn(&Cell<'_>) -> Result<()>,
    /// The routers that have nothing to run it against, and why.
    lacking: &'static [(Kind, &'static str)],
}

impl Row {
    /// Why this router can't run it.
    pub(crate) fn lacks(&self, kind: Kind) -> Option<&'static str> {
        let found = self.lacking.iter().find(|(lacking, _)| *lacking == kind);
        found.map(|(_, reason)| *reason)
    }
}

const fn row(title: &'static str, run: fn(&Cell<'_>) -> Result<()>) -> Row {
    Row {
        title,
        nodes: 1,
        run,
        lacking: &[],
    }
}

impl Row {
    const fn unless(mut self, lacking: &'static [(Kind, &'static str)]) -> Self {
        self.lacking = lacking;
        self
    }
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        example: "ebgp",
        rows: &[
            row("4760 IPv6 over IPv6", sessions::ipv6),
            row("4271 eBGP, 4760 both families over IPv4", sessions::ebgp),
            row(
                "1997 communities, 8092 large communities",
                sessions::communities,
            ),
            row(
                "4271 hold timer: they notice that we are silent",
                sessions::their_hold_timer,
            ),
            row(
                "4271 hold timer: we notice that they are silent",
                sessions::our_hold_timer,
            ),
            row("9003 our shutdown text is in their log", sessions::our_text)
                .unless(&[(Kind::Gobgp, "it logs the code only"),
                (Kind::Exabgp, "it trips over any text that it receives: a TypeError in its own decoder, then NOTIFICATION 1/0")]),
        ],
    },
    Group {
        example: "ebgp",
        rows: &[row(
            "10,000 prefixes: all, then none",
            sessions::ten_thousand,
        )],
    },
    Group {
        example: "ibgp",
        rows: &[row("4271 iBGP with local preference", sessions::ibgp)],
    },
    Group {
        example: "md5",
        rows: &[
            row("2385 MD5, the right password", sessions::right_password),
            row(
                "2385 MD5, a wrong password: no session",
                sessions::wrong_password,
            ),
        ],
    },
    Group {
        example: "active",
        rows: &[
            row("4271 they dial, we wait", sessions::passive),
            row("4271 §6.8 both dial", sessions::both),
            row("2918 route refresh asked by them", sessions::refresh)
                .unless(&[(Kind::Gobgp, "it has no command that sends one")]),
            row(
                "9003 their shutdown text is in our log",
                sessions::their_text,
            )
            .unless(&[(Kind::Exabgp, "it has no text to send")]),
        ],
    },
];
