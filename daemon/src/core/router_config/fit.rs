//! What a syntax can express of what a router needs.

use std::str::FromStr;

use ferrolb_bgp::bfd::Interval;

use super::group::{Group, Members};
use super::needs::Needs;

/// The syntax of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// FRRouting.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP.
    Gobgp,
    /// OpenBGPD.
    Openbgpd,
    /// ExaBGP, a route collector.
    Exabgp,
    /// Arista EOS.
    Eos,
    /// Cisco NX-OS.
    Nxos,
    /// Juniper Junos.
    Junos,
    /// SONiC, with FRR inside.
    Sonic,
    /// MikroTik RouterOS 7.
    Routeros,
    /// VyOS, with FRR inside.
    Vyos,
    /// Cumulus Linux, with FRR inside.
    Cumulus,
}

/// What not every syntax has, or not in the form that is generated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ability {
    /// BFD.
    Bfd,
    /// BFD over several hops (RFC 5883).
    MultihopBfd,
    /// BFD over several hops before the session is established.
    StrictMultihopBfd,
    /// GTSM (RFC 5082).
    TtlSecurity,
    /// Dynamic neighbors in a network.
    Range,
    /// BFD with dynamic neighbors.
    BfdInRange,
    /// GTSM with dynamic neighbors.
    TtlSecurityInRange,
    /// TCP MD5 with dynamic neighbors.
    PasswordInRange,
    /// Neighbors by interface, without addresses.
    Interface,
    /// Another port than that of BGP.
    Port,
    /// Routes of a restarting node stay (RFC 4724).
    GracefulRestart,
}

impl Syntax {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Frr,
        Self::Bird,
        Self::Gobgp,
        Self::Openbgpd,
        Self::Exabgp,
        Self::Eos,
        Self::Nxos,
        Self::Junos,
        Self::Sonic,
        Self::Routeros,
        Self::Vyos,
        Self::Cumulus,
    ];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Frr => "frr",
            Self::Bird => "bird",
            Self::Gobgp => "gobgp",
            Self::Openbgpd => "openbgpd",
            Self::Exabgp => "exabgp",
            Self::Eos => "eos",
            Self::Nxos => "nxos",
            Self::Junos => "junos",
            Self::Sonic => "sonic",
            Self::Routeros => "routeros",
            Self::Vyos => "vyos",
            Self::Cumulus => "cumulus",
        }
    }

    /// Its name in sentences.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::Gobgp => "GoBGP",
            Self::Openbgpd => "OpenBGPD",
            Self::Exabgp => "ExaBGP",
            Self::Eos => "Arista EOS",
            Self::Nxos => "Cisco NX-OS",
            Self::Junos => "Junos",
            Self::Sonic => "SONiC",
            Self::Routeros => "RouterOS",
            Self::Vyos => "VyOS",
            Self::Cumulus => "Cumulus Linux",
        }
    }

    /// What it can express. For the first five, and for FRR inside others, as the lab found it; for
    /// the others what their manuals describe plainly.
    const fn abilities(self) -> &'static [Ability] {
        use Ability::*;
        match self {
            // FRR 8.4 deletes the BFD session of a dynamic neighbor together with it, and doesn't
            // check its TTL. It starts multihop BFD only once the session is established.
            Self::Frr | Self::Sonic | Self::Vyos | Self::Cumulus => &[
                Bfd,
                MultihopBfd,
                TtlSecurity,
                Range,
                PasswordInRange,
                Interface,
                Port,
                GracefulRestart,
            ],
            Self::Bird => &[
                Bfd,
                MultihopBfd,
                StrictMultihopBfd,
                TtlSecurity,
                Range,
                BfdInRange,
                TtlSecurityInRange,
                PasswordInRange,
                Interface,
                Port,
                GracefulRestart,
            ],
            // GoBGP 3.10 has no BFD, and neither passwords nor GTSM for dynamic neighbors.
            Self::Gobgp => &[TtlSecurity, Range, GracefulRestart],
            // On Linux, passwords of OpenBGPD 7.7 work for single addresses only. It has no BFD
            // there.
            Self::Openbgpd => &[
                TtlSecurity,
                Range,
                TtlSecurityInRange,
                Port,
                GracefulRestart,
            ],
            // ExaBGP 4.2 answers only one of several neighbors of a range that dial at once.
            Self::Exabgp => &[TtlSecurity],
            Self::Eos | Self::Nxos => &[
                Bfd,
                TtlSecurity,
                Range,
                BfdInRange,
                TtlSecurityInRange,
                PasswordInRange,
                GracefulRestart,
            ],
            Self::Junos => &[Bfd, Range, BfdInRange, GracefulRestart],
            Self::Routeros => &[Bfd, Range, BfdInRange, PasswordInRange],
        }
    }

    fn can(self, ability: Ability) -> bool {
        self.abilities().contains(&ability)
    }

    /// The shortest interval of BFD, in milliseconds.
    const fn bfd_interval_min(self) -> u32 {
        match self {
            Self::Eos | Self::Nxos | Self::Junos => 50,
            _ => 10,
        }
    }
}

impl FromStr for Syntax {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|syntax| syntax.name() == name);
        found.ok_or_else(|| format!("{name:?} is no syntax of a router"))
    }
}

/// What the syntax can express. The rest becomes a remark, or is left out.
pub(super) fn fit(mut needs: Needs, syntax: Syntax) -> Needs {
    for group in std::mem::take(&mut needs.groups) {
        let object = group.object.clone();
        match fitted(group, syntax, &mut needs.remarks) {
            Ok(group) => needs.groups.push(group),
            Err(reason) => needs.left_out.push(format!("{object}: {reason}")),
        }
    }
    needs
}

/// The group as the syntax can express it, or why it can't at all.
fn fitted(mut group: Group, syntax: Syntax, remarks: &mut Vec<String>) -> Result<Group, String> {
    check(&group, syntax)?;
    let title = syntax.title();
    let object = group.object.clone();
    let mut remark = |text: String| remarks.push(format!("{object}: {text}"));
    without_bfd(&mut group, syntax, &mut remark)?;
    bounded_bfd(&mut group, syntax, &mut remark);
    if group.graceful_restart() && !syntax.can(Ability::GracefulRestart) {
        group.session.graceful_restart = None;
        remark(format!(
            "{title} keeps no routes of a node that restarts in this configuration"
        ));
    }
    group.members = fitted_members(&group, syntax, &mut remark)?;
    Ok(group)
}

/// What no session can do without.
fn check(group: &Group, syntax: Syntax) -> Result<(), String> {
    let title = syntax.title();
    if !group.members.links().is_empty() && !syntax.can(Ability::Interface) {
        return Err(format!(
            "it is unnumbered, for which no configuration of {title} is generated: use \
             peerAddress, or configure its interfaces by hand"
        ));
    }
    if let Some(port) = group.other_port()
        && !syntax.can(Ability::Port)
    {
        return Err(format!(
            "its peerPort is {port}, but {title} listens on 179 in this configuration: remove \
             peerPort"
        ));
    }
    if group.ttl_security().is_some() && !syntax.can(Ability::TtlSecurity) {
        return Err(format!(
            "no configuration of ttlSecurity is generated for {title}, and sessions need it at \
             both ends: configure them by hand, or remove ttlSecurity"
        ));
    }
    Ok(())
}

/// Removes BFD where the syntax doesn't have it.
fn without_bfd(
    group: &mut Group,
    syntax: Syntax,
    remark: &mut impl FnMut(String),
) -> Result<(), String> {
    let Some(bfd) = &group.session.bfd else {
        return Ok(());
    };
    let title = syntax.title();
    let what = match (group.multihop(), syntax.can(Ability::Bfd)) {
        (_, false) => format!("{title} has no BFD"),
        (true, true) if !syntax.can(Ability::MultihopBfd) => {
            format!("no configuration of BFD over several hops is generated for {title}")
        }
        (true, true) if bfd.strict && !syntax.can(Ability::StrictMultihopBfd) => {
            return Err(format!(
                "it has bfdStrict over several hops, where {title} starts BFD only after the \
                 session: remove bfdStrict"
            ));
        }
        _ => return Ok(()),
    };
    if bfd.strict {
        return Err(format!(
            "it has bfdStrict, so that no session is established without BFD, but {what}: remove \
             bfdStrict"
        ));
    }
    group.session.bfd = None;
    remark(format!(
        "{what}: a node that is dead or cut off receives traffic until the hold time is over"
    ));
    Ok(())
}

/// Raises BFD intervals to the syntax's minimum.
fn bounded_bfd(group: &mut Group, syntax: Syntax, remark: &mut impl FnMut(String)) {
    let min = syntax.bfd_interval_min();
    let Some(bfd) = &mut group.session.bfd else {
        return;
    };
    let timers = &mut bfd.session.timers;
    let least = Interval::from_millis(min);
    if timers.desired_min_tx < least || timers.required_min_rx < least {
        timers.desired_min_tx = timers.desired_min_tx.max(least);
        timers.required_min_rx = timers.required_min_rx.max(least);
        remark(format!(
            "{} accepts BFD intervals from {min} ms: the longer one of both ends applies",
            syntax.title()
        ));
    }
}

/// Dynamic neighbors by name, where the syntax requires it.
fn fitted_members(
    group: &Group,
    syntax: Syntax,
    remark: &mut impl FnMut(String),
) -> Result<Members, String> {
    let Members::Range { network, known } = &group.members else {
        return Ok(group.members.clone());
    };
    let needs = [
        (true, Ability::Range, "dynamic neighbors"),
        (group.bfd().is_some(), Ability::BfdInRange, "BFD"),
        (
            group.ttl_security().is_some(),
            Ability::TtlSecurityInRange,
            "ttlSecurity",
        ),
        (
            group.password.is_some(),
            Ability::PasswordInRange,
            "a password",
        ),
    ];
    let mut missing = needs
        .into_iter()
        .filter(|(needed, ability, _)| *needed && !syntax.can(*ability));
    let what = match missing.next() {
        Some((_, _, what)) => what,
        None if group.router_dials() => "sessions that it dials",
        None => return Ok(group.members.clone()),
    };
    let title = syntax.title();
    if known.is_empty() {
        return Err(format!(
            "{title} needs each node's address for {what}, and no Node has an InternalIP in its \
             sourceAddress {network}: configure the nodes by hand"
        ));
    }
    remark(format!(
        "{title} needs each node's address for {what}: these are the InternalIPs in its \
         sourceAddress {network}, and a node that dials from another address in it is refused"
    ));
    Ok(Members::Named(known.clone()))
}
