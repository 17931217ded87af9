//! The rows of docs/interop.md, grouped by the router's configuration, and the routers that can't
//! run them.

use anyhow::Result;
use ferrolb_interop_tests::router::Kind;

use crate::{Cell, bfd, features, restarts, sessions};

/// Rows that run with the same router configuration.
pub(crate) struct Group {
    /// Name of the configuration in `peering-examples/PRODUCT/`.
    pub(crate) example: &'static str,
    pub(crate) rows: &'static [Row],
}

/// A scenario and its title.
pub(crate) struct Row {
    /// Title in the document.
    pub(crate) title: &'static str,
    /// Number of nodes that the scenario needs.
    pub(crate) nodes: u8,
    pub(crate) run: fn(&Cell<'_>) -> Result<()>,
    /// The routers that can't run the scenario, with the reason.
    lacking: &'static [(Kind, &'static str)],
}

impl Row {
    /// The reason why this router can't run the scenario.
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
    /// Sets the number of nodes.
    const fn on(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets the routers that can't run the scenario.
    const fn unless(mut self, lacking: &'static [(Kind, &'static str)]) -> Self {
        self.lacking = lacking;
        self
    }
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        example: "ebgp",
        rows: &[
            row("4760 IPv6 routes over IPv6", sessions::ipv6),
            row("4271 eBGP, 4760 both families over IPv4", sessions::ebgp),
            row(
                "1997 communities, 8092 large communities",
                sessions::communities,
            ),
            row("4360 extended communities", features::extended_communities),
            row(
                "5701 IPv6 extended communities",
                features::ipv6_extended_communities,
            )
            .unless(&[(Kind::Frr, HIDDEN)]),
            row(
                "10005 link bandwidth, ECMP in the router's kernel: FRR weighted, BIRD equal",
                features::weights,
            )
            .on(3)
            .unless(NO_KERNEL),
            row(
                "4271 hold timer of the router expires while ferrolb is stalled",
                sessions::router_hold_timer,
            ),
            row(
                "4271 hold timer of ferrolb expires while nothing is received",
                sessions::ferrolb_hold_timer,
            ),
            row(
                "9003 shutdown communication from ferrolb in the router's log",
                sessions::ferrolb_shutdown_text,
            )
            .unless(&[
                (Kind::Gobgp, "it logs only the code"),
                (Kind::Exabgp, FAILS_ON_TEXT),
            ]),
            row(
                "5882 BFD strict mode with a router without BFD: no session",
                bfd::strict_without_bfd,
            ),
        ],
    },
    Group {
        example: "ebgp",
        rows: &[row(
            "10,000 prefixes announced, then withdrawn",
            sessions::ten_thousand,
        )],
    },
    Group {
        example: "ebgp",
        rows: &[row(
            "4271 MED, prepended AS_PATH, ATOMIC_AGGREGATE and AGGREGATOR of an aggregate",
            features::path_attributes,
        )
        .unless(&[(
            Kind::Ferrolb,
            "it prints communities, but not these attributes",
        )])],
    },
    Group {
        example: "collector",
        rows: &[
            row(
                "1997, 4360, 8092 communities propagated by the router to a collector",
                features::propagated,
            )
            .on(2)
            .unless(NO_PROPAGATION),
            row(
                "5701 IPv6 extended communities propagated by the router to a collector",
                features::ipv6_propagated,
            )
            .on(2)
            .unless(&[
                (Kind::Frr, HIDDEN),
                (Kind::Exabgp, PROPAGATES_NOTHING),
                (Kind::Ferrolb, PROPAGATES_NOTHING),
            ]),
        ],
    },
    Group {
        example: "ibgp",
        rows: &[row("4271 iBGP with LOCAL_PREF", sessions::ibgp)],
    },
    Group {
        example: "md5",
        rows: &[
            row("2385 MD5, correct password", sessions::right_password),
            row(
                "2385 MD5, wrong password: no session",
                sessions::wrong_password,
            ),
        ],
    },
    Group {
        example: "md5",
        rows: &[row(
            "2385 MD5, password changed on both sides: routes return within seconds",
            sessions::password_change,
        )],
    },
    Group {
        example: "md5",
        rows: &[row(
            "2385 MD5, password changed on both sides: the session stays up",
            sessions::password_change_keeps_session,
        )
        .unless(NEW_SESSION)],
    },
    Group {
        example: "active",
        rows: &[
            row(
                "4271 the router dials, ferrolb is passive",
                sessions::passive,
            )
            .unless(NO_DIALLING),
            row(
                "4271 §6.8 both sides dial: connection collision",
                sessions::collision,
            )
            .unless(&[(Kind::Ferrolb, OUR_OWN)]),
            row(
                "4271 the router dials as a dynamic neighbor of ferrolb",
                sessions::dynamic,
            )
            .unless(NO_DIALLING),
            row(
                "2918 route refresh requested by the router",
                sessions::refresh,
            )
            .unless(&[
                (Kind::Gobgp, "it has no command that requests a refresh"),
                (Kind::Ferrolb, "it keeps no table and requests no refresh"),
            ]),
            row(
                "9003 shutdown communication from the router in ferrolb's log",
                sessions::router_shutdown_text,
            )
            .unless(&[
                (Kind::Exabgp, "it can't send a text"),
                (Kind::Ferrolb, COVERED_BY_OUR_TEXT),
            ]),
        ],
    },
    Group {
        example: "gtsm",
        rows: &[
            row("5082 GTSM on both sides", features::gtsm),
            row(
                "5082 GTSM on the router only: no session",
                features::without_gtsm,
            )
            .unless(&[(Kind::Exabgp, NO_TTL_CHECK)]),
        ],
    },
    Group {
        example: "ipv6-only",
        rows: &[
            row("8950 IPv4 routes with IPv6 next hops", features::ipv6_only)
                .unless(&[(Kind::Openbgpd, NO_EXTENDED_NEXT_HOP)]),
        ],
    },
    Group {
        example: "link-local",
        rows: &[
            row(
                "2545 IPv6 routes over link-local addresses: global and link-local next hop",
                features::link_local,
            )
            .unless(&[(Kind::Exabgp, NO_LINK)]),
            row(
                "8950 IPv4 routes over link-local addresses: global and link-local next hop",
                features::ipv4_link_local,
            )
            .unless(&[
                (Kind::Openbgpd, NO_EXTENDED_NEXT_HOP),
                (Kind::Exabgp, NO_LINK),
            ]),
        ],
    },
    Group {
        example: "all-capabilities",
        rows: &[
            row("8654 extended messages", features::extended_messages).unless(&[
                (Kind::Gobgp, "it has none"),
                (Kind::Ferrolb, OUR_OWN),
                (Kind::Openbgpd, "it has none"),
            ]),
            row("7313 enhanced route refresh", features::enhanced_refresh).unless(&[
                (Kind::Gobgp, "it has none"),
                (Kind::Ferrolb, OUR_OWN),
                (Kind::Exabgp, "the JSON of its events is malformed then"),
            ]),
            row(
                "7911 ADD-PATH advertised by the router, not by ferrolb",
                features::add_path,
            )
            .unless(&[(Kind::Ferrolb, "it does not advertise ADD-PATH")]),
        ],
    },
    Group {
        example: "graceful-restart",
        rows: &[
            row(
                "4724 SIGKILL, restarted in time: routes stay, stale ones are removed",
                restarts::restarted_in_time,
            )
            .unless(NO_RESTART),
            row(
                "4724 SIGKILL, not restarted in time: routes are removed",
                restarts::not_restarted_in_time,
            )
            .unless(NO_RESTART),
            row(
                "4724 planned restart: routes stay",
                restarts::planned_restart,
            )
            .unless(NO_RESTART),
            row(
                "8538 N bit: routes stay after a Cease",
                restarts::routes_stay_after_cease,
            )
            .unless(NO_NOTIFICATION_RESTART),
            row(
                "8538 Hard Reset: routes are removed at once",
                restarts::hard_reset,
            )
            .unless(NO_HARD_RESET),
        ],
    },
    Group {
        example: "bfd",
        rows: &[
            row(
                "5880 BFD detects a silent cut long before the hold timer expires",
                bfd::detects_cut,
            )
            .unless(NO_BFD),
            row(
                "5881 BFD over IPv6 detects a silent cut",
                bfd::detects_cut_over_ipv6,
            )
            .unless(NO_BFD),
            row(
                "5882 BFD strict mode: the session waits for BFD",
                bfd::strict,
            )
            .unless(NO_BFD),
        ],
    },
    Group {
        example: "bfd-multihop",
        rows: &[row(
            "5883 multihop BFD detects a silent cut",
            bfd::detects_cut_multihop,
        )
        .unless(NO_BFD)],
    },
    Group {
        example: "two-octet-as",
        rows: &[row(
            "6793 four-octet AS with a router that supports two octets only",
            features::two_octet_as,
        )
        .unless(&[
            (Kind::Frr, "it can omit only all capabilities or none"),
            (Kind::Gobgp, NO_OMISSION),
            (Kind::Ferrolb, NO_OMISSION),
        ])],
    },
];

const NO_KERNEL: &[(Kind, &str)] = &[
    (Kind::Gobgp, "it installs no routes into the kernel"),
    (
        Kind::Openbgpd,
        "it installs no routes into the Linux kernel",
    ),
    (Kind::Exabgp, "it installs no routes into the kernel"),
    (Kind::Ferrolb, "it installs no routes into the kernel"),
];

const NO_PROPAGATION: &[(Kind, &str)] = &[
    (Kind::Exabgp, PROPAGATES_NOTHING),
    (Kind::Ferrolb, PROPAGATES_NOTHING),
];

const PROPAGATES_NOTHING: &str = "it propagates no routes";

const HIDDEN: &str = "it accepts the routes, but neither shows nor propagates these communities";

const NO_LINK: &str = "it can't be configured with the interface of a link-local address";

const NO_BFD: &[(Kind, &str)] = &[
    (Kind::Gobgp, "it has no BFD"),
    (Kind::Openbgpd, "it has no BFD"),
    (Kind::Exabgp, "it has no BFD"),
];

const NO_TABLE: &str = "it keeps no table and is no restarting helper";

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

const ENDS_IT: &str = "it ends the session when its password changes; the next one is \
    established with the new password within seconds";

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

const NO_N_BIT: &str = "it does not advertise the N bit";

const OUR_OWN: &str =
    "covered by the tests of the `bgp` crate, which connect two speakers (bgp/tests)";

const NO_DIALLING: &[(Kind, &str)] = &[(Kind::Ferrolb, COVERED_BY_DYNAMIC)];

const COVERED_BY_DYNAMIC: &str = "covered by the rows in which the other side dials: \
    ferrolb as the router is passive in all of them";

const FAILS_ON_TEXT: &str =
    "its decoder fails with a TypeError on any text, then it sends NOTIFICATION 1/0";

const NO_TTL_CHECK: &str =
    "it sends with TTL 255, but does not check the TTL of nodes that dial it";

const NO_EXTENDED_NEXT_HOP: &str = "it does not support Extended Next Hop Encoding (capability 5)";

const COVERED_BY_OUR_TEXT: &str = "covered by the row on ferrolb's shutdown communication";

const NO_OMISSION: &str = "it has no option to omit the capability";
