//! The rows of the matrix, by the example that the router runs with, and what a router lacks.

use anyhow::Result;
use ferrolb_interop_tests::router::Kind;

use crate::{Cell, bfd, features, restarts, sessions};

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
    /// A row that needs more than one node.
    const fn on(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

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
            row("4360 extended communities", features::extended_communities),
            row("5701 IPv6 extended communities", features::ipv6_extended_communities)
                .unless(&[(Kind::Frr, HIDDEN)]),
            row(
                "10005 link bandwidth, ECMP in their kernel: FRR by weight, BIRD equal",
                features::weights,
            )
            .on(3)
            .unless(NO_KERNEL),
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
            row("5882 BFD in strict mode, and they have none: no session", bfd::strict_in_vain),
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
        example: "ebgp",
        rows: &[row(
            "4271 MED, AS_PATH prepended, ATOMIC_AGGREGATE and AGGREGATOR of an aggregate",
            features::path_attributes,
        )
        .unless(&[(Kind::Ferrolb, "it prints communities, not these")])],
    },
    Group {
        example: "collector",
        rows: &[
            row(
                "1997, 4360, 8092 communities passed on by them to a collector",
                features::passed_on,
            )
            .on(2)
            .unless(NOT_PASSED_ON),
            row(
                "5701 IPv6 extended communities passed on by them to a collector",
                features::ipv6_passed_on,
            )
            .on(2)
            .unless(&[
                (Kind::Frr, HIDDEN),
                (Kind::Exabgp, NOTHING_PASSED_ON),
                (Kind::Ferrolb, NOTHING_PASSED_ON),
            ]),
        ],
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
        example: "md5",
        rows: &[
            row(
                "2385 MD5, both sides change the password: routes again within seconds",
                sessions::changed_password,
            ),
        ],
    },
    Group {
        example: "md5",
        rows: &[row(
            "2385 MD5, both sides change the password: the session goes on",
            sessions::changed_password_in_session,
        )
        .unless(NEW_SESSION)],
    },
    Group {
        example: "active",
        rows: &[
            row("4271 they dial, we wait", sessions::passive).unless(NO_DIALLING),
            row("4271 §6.8 both dial", sessions::both).unless(&[(Kind::Ferrolb, OUR_OWN)]),
            row(
                "4271 they dial, whoever they are: dynamic neighbours of ours",
                sessions::dynamic,
            )
            .unless(NO_DIALLING),
            row("2918 route refresh asked by them", sessions::refresh)
                .unless(&[(Kind::Gobgp, "it has no command that sends one"), (Kind::Ferrolb, "it keeps nothing and never asks again")]),
            row(
                "9003 their shutdown text is in our log",
                sessions::their_text,
            )
            .unless(&[(Kind::Exabgp, "it has no text to send"), (Kind::Ferrolb, "the same as our text in its log")]),
        ],
    },
    Group {
        example: "gtsm",
        rows: &[
            row("5082 GTSM on both sides", features::gtsm),
            row("5082 GTSM on their side only: no session", features::without_gtsm).unless(
                &[(Kind::Exabgp, "it sends as GTSM wants it, but does not check nodes that dial it")],
            ),
        ],
    },
    Group {
        example: "ipv6-only",
        rows: &[row("8950 IPv4 over IPv6 next hops", features::ipv6_only).unless(&[
            (Kind::Openbgpd, "it has no capability 5"),
        ])],
    },
    Group {
        example: "link-local",
        rows: &[
            row(
                "2545 IPv6 between link-local addresses: both next hops",
                features::link_local,
            )
            .unless(&[(Kind::Exabgp, NO_LINK)]),
            row(
                "8950 IPv4 between link-local addresses: the same next hops",
                features::ipv4_link_local,
            )
            .unless(&[(Kind::Openbgpd, "it has no capability 5"), (Kind::Exabgp, NO_LINK)]),
        ],
    },
    Group {
        example: "all-capabilities",
        rows: &[
            row("8654 extended messages", features::extended_messages).unless(&[
                (Kind::Gobgp, "it has none"), (Kind::Ferrolb, OUR_OWN),
                (Kind::Openbgpd, "it has none"),
            ]),
            row("7313 enhanced route refresh", features::enhanced_refresh).unless(&[
                (Kind::Gobgp, "it has none"), (Kind::Ferrolb, OUR_OWN),
                (Kind::Exabgp, "the JSON of its events is broken then"),
            ]),
            row("7911 ADD-PATH offered by them, declined by us", features::add_path).unless(&[(Kind::Ferrolb, "it has one path per prefix and offers none")]),
        ],
    },
    Group {
        example: "graceful-restart",
        rows: &[
            row("4724 kill -9, back in time: routes stay, stale ones go", restarts::back_in_time)
                .unless(NO_RESTART),
            row("4724 kill -9, not back in time: routes go", restarts::not_back).unless(NO_RESTART),
            row("4724 planned leave: routes stay", restarts::preserved).unless(NO_RESTART),
            row("8538 N bit: routes stay after a Cease", restarts::kept_after_cease)
                .unless(NO_NOTIFICATION_RESTART),
            row("8538 Hard Reset: routes go at once", restarts::hard_reset).unless(NO_HARD_RESET),
        ],
    },
    Group {
        example: "bfd",
        rows: &[
            row("5880 BFD: a silent cut is noticed long before the hold timer", bfd::cut).unless(NO_BFD),
            row("5881 BFD over IPv6: the same", bfd::over_ipv6).unless(NO_BFD),
            row("5882 BFD in strict mode: the session waits for BFD", bfd::strict).unless(NO_BFD),
        ],
    },
    Group {
        example: "bfd-multihop",
        rows: &[
            row("5883 BFD and a session over several hops: a silent cut is noticed", bfd::multihop).unless(NO_BFD),
        ],
    },
    Group {
        example: "two-octet-as",
        rows: &[row("6793 our 32-bit AS towards a router with 16 bits", features::two_octet_as).unless(&[
            (Kind::Frr, "it leaves out all capabilities or none"),
            (Kind::Gobgp, "no option of it leaves the capability out"), (Kind::Ferrolb, "no option of it leaves the capability out"),
        ])],
    },
];

const NO_KERNEL: &[(Kind, &str)] = &[
    (Kind::Gobgp, "it gives nothing to the kernel"),
    (Kind::Openbgpd, "it gives nothing to the kernel on Linux"),
    (Kind::Exabgp, "it gives nothing to the kernel"),
    (Kind::Ferrolb, "it gives nothing to the kernel"),
];

const NOT_PASSED_ON: &[(Kind, &str)] = &[
    (Kind::Exabgp, NOTHING_PASSED_ON),
    (Kind::Ferrolb, NOTHING_PASSED_ON),
];

const NOTHING_PASSED_ON: &str = "it passes nothing on";

const HIDDEN: &str = "it takes the routes, but neither shows these communities nor passes them on";

const NO_LINK: &str = "it can't be given the interface of a link-local address";

const NO_BFD: &[(Kind, &str)] = &[
    (Kind::Gobgp, "it has no BFD"),
    (Kind::Openbgpd, "it has no BFD"),
    (Kind::Exabgp, "it has no BFD"),
];

const NO_TABLE: &str = "it keeps no table: it announces, and helps nobody restart";

const NO_RESTART: &[(Kind, &str)] = &[
    (Kind::Exabgp, "it keeps no table"),
    (Kind::Ferrolb, NO_TABLE),
];

const NEW_SESSION: &[(Kind, &str)] = &[
    (Kind::Bird, ENDS_IT),
    (Kind::Frr, ENDS_IT),
    (Kind::Gobgp, ENDS_IT),
    (Kind::Openbgpd, ENDS_IT),
    (Kind::Exabgp, ENDS_IT),
];

const ENDS_IT: &str = "it ends the session when its own password changes; the next one comes up with the new password within seconds";

const NO_NOTIFICATION_RESTART: &[(Kind, &str)] = &[
    (Kind::Bird, NO_N_BIT),
    (Kind::Openbgpd, NO_N_BIT),
    (Kind::Exabgp, "it keeps no table"),
    (Kind::Ferrolb, NO_TABLE),
];

const NO_HARD_RESET: &[(Kind, &str)] = &[
    (Kind::Bird, NO_N_BIT),
    (Kind::Openbgpd, NO_N_BIT),
    (Kind::Exabgp, NO_N_BIT),
];

const NO_N_BIT: &str = "it does not offer the N bit";

const OUR_OWN: &str = "the crate's own tests join two of us (bgp/tests)";

const NO_DIALLING: &[(Kind, &str)] = &[(Kind::Ferrolb, SEEN_FROM_THERE)];

/// One of two ferrolb dials and the other one waits for a network of neighbours, in all of their rows.
const SEEN_FROM_THERE: &str =
    "the same as where we dial: it waits for us in just that way in all other rows";
