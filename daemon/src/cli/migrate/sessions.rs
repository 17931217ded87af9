//! Which BGP sessions a node must have before the next one is moved. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::core::api::bgp_session::{BgpSessionStatus, BgpState};
use crate::core::index::Index;

/// The routers of a node by their addresses, or by what MetalLB says in place of one, with whether
/// the session is established.
pub(super) type Routers = BTreeMap<String, bool>;

/// A BGPPeer that runs on a node by the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedPeer {
    pub name: String,
    /// Unknown if the peer is unnumbered.
    pub router: Option<IpAddr>,
}

/// The BGPPeers of each node.
pub(super) type PlannedPeers = BTreeMap<String, Vec<PlannedPeer>>;

/// The BGPPeers that run on each node, without those that are networks: these may have no session.
pub(super) fn planned_peers(index: &Index) -> PlannedPeers {
    let nodes = index.nodes().iter().map(|(name, node)| {
        let peers = index.peers_on(name, node);
        let peers = peers.filter(|peer| peer.session.remote.is_one_router());
        let peers = peers.map(|peer| PlannedPeer {
            name: peer.name.to_string(),
            router: peer.session.remote.router().map(|router| router.ip()),
        });
        (name.clone(), peers.collect())
    });
    nodes.collect()
}

/// The BGPPeers that MetalLB shows as not established.
pub(super) fn unreached(planned: &[PlannedPeer], metallb: &Routers) -> BTreeSet<String> {
    let is_down = |peer: &&PlannedPeer| {
        let router = peer.router.map(|router| router.to_string());
        router.and_then(|router| metallb.get(&router)) == Some(&false)
    };
    let down = planned.iter().filter(is_down);
    down.map(|peer| peer.name.clone()).collect()
}

/// The BGPPeers whose sessions ferrolb must establish on a node: all, except those that MetalLB did
/// not reach either.
pub(super) fn required(
    planned: &[PlannedPeer],
    unreached: Option<&BTreeSet<String>>,
) -> BTreeSet<String> {
    let names = planned.iter().map(|peer| &peer.name);
    names
        .filter(|name| !unreached.is_some_and(|unreached| unreached.contains(*name)))
        .cloned()
        .collect()
}

/// The required sessions of a node that are not established, each with what is known about it.
/// `old` is what the objects said before ferrolb started there: an earlier process wrote it.
pub(super) fn missing(
    required: &BTreeSet<String>,
    now: &[BgpSessionStatus],
    old: &[BgpSessionStatus],
) -> Vec<String> {
    let missing = required.iter().filter_map(|peer| {
        let mut sessions = now.iter().filter(|status| status.peer == *peer);
        if sessions
            .clone()
            .any(|status| status.bgp == BgpState::Established && !old.contains(status))
        {
            return None;
        }
        let fresh = sessions.find(|status| !old.contains(status));
        Some(match fresh {
            Some(status) => {
                let error = status.last_error.as_ref();
                let error = error.map(|error| format!(": {}", error.message));
                format!("{peer} is {:?}{}", status.bgp, error.unwrap_or_default())
            }
            None => format!("ferrolb has not reported {peer}"),
        })
    });
    missing.collect()
}

/// Takes out the sessions of BGPPeers that only ferrolb has: MetalLB can't have them. Returns the
/// names of these BGPPeers. `own` and `metallb` are the names of the BGPPeers of either group.
pub(super) fn take_own(
    sessions: &mut Vec<BgpSessionStatus>,
    own: &BTreeSet<String>,
    metallb: &BTreeSet<String>,
) -> BTreeSet<String> {
    let is_own = |status: &mut BgpSessionStatus| {
        own.contains(&status.peer) && !metallb.contains(&status.peer)
    };
    let taken = sessions.extract_if(.., is_own);
    taken.map(|status| status.peer).collect()
}

/// The routers with which ferrolb has sessions. `None` if MetalLB would not show all of them by an
/// address.
pub(super) fn established(sessions: &[BgpSessionStatus]) -> Option<BTreeSet<String>> {
    let up = sessions
        .iter()
        .filter(|status| status.bgp == BgpState::Established);
    up.map(|status| {
        let address: IpAddr = status.address.parse().ok()?;
        let link_local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
        (!link_local).then(|| address.to_string())
    })
    .collect()
}

/// Whether MetalLB has the sessions of a node again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Returned {
    Yes,
    /// These are not established.
    No(Vec<String>),
    /// It does not show them.
    Unknown,
}

/// Compares what MetalLB shows with the sessions that ferrolb had. Each may be unknown.
pub(super) fn returned(before: Option<&BTreeSet<String>>, metallb: Option<&Routers>) -> Returned {
    if before.is_some_and(BTreeSet::is_empty) {
        return Returned::Yes;
    }
    let Some(metallb) = metallb else {
        return Returned::Unknown;
    };
    let missing: Vec<String> = match before {
        Some(before) => {
            let missing = before.iter();
            let missing = missing.filter(|router| metallb.get(*router) != Some(&true));
            missing.cloned().collect()
        }
        None => {
            let down = metallb.iter().filter(|(_, up)| !**up);
            down.map(|(router, _)| router.clone()).collect()
        }
    };
    match (missing.is_empty(), before) {
        (true, _) => Returned::Yes,
        (false, Some(_)) => Returned::No(missing),
        // Perhaps they were down before.
        (false, None) => Returned::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, router: &str) -> PlannedPeer {
        PlannedPeer {
            name: name.to_owned(),
            router: router.parse().ok(),
        }
    }

    fn routers(routers: &[(&str, bool)]) -> Routers {
        let routers = routers.iter();
        routers
            .map(|(name, up)| ((*name).to_owned(), *up))
            .collect()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn session(peer: &str, address: &str, bgp: BgpState, since: &str) -> BgpSessionStatus {
        BgpSessionStatus {
            peer: peer.to_owned(),
            address: address.to_owned(),
            bgp,
            since: since.to_owned(),
            ..BgpSessionStatus::default()
        }
    }

    #[test]
    fn all_peers_of_the_plan_are_required_but_those_that_metallb_does_not_reach() {
        let planned = [peer("a", "192.0.2.1"), peer("b", "fd00::2"), peer("c", "")];
        assert_eq!(required(&planned, None), names(&["a", "b", "c"]));
        let shown = routers(&[("192.0.2.1", true), ("fd00::2", false), ("<nil>:0", false)]);
        let down = unreached(&planned, &shown);
        assert_eq!(down, names(&["b"]));
        assert_eq!(required(&planned, Some(&down)), names(&["a", "c"]));
        // A peer that was deleted since then is not required, a new one is.
        let later = [peer("a", "192.0.2.1"), peer("d", "192.0.2.4")];
        assert_eq!(required(&later, Some(&down)), names(&["a", "d"]));
        // Not shown is not down.
        assert_eq!(unreached(&planned, &routers(&[])), names(&[]));
        assert_eq!(required(&[], None), names(&[]));
    }

    #[test]
    fn a_session_counts_only_if_ferrolb_reports_it_since_it_runs_on_the_node() {
        use BgpState::{Active, Established};
        let required = names(&["a", "b"]);
        let old = [session("a", "192.0.2.1", Established, "10:00")];
        let missing = |now: &[BgpSessionStatus]| missing(&required, now, &old);
        assert_eq!(missing(&old).len(), 2, "an earlier process wrote it");

        let a = session("a", "192.0.2.1", Established, "11:00");
        let b = session("b", "192.0.2.2", Active, "11:00");
        assert_eq!(missing(&[a.clone(), b]), ["b is Active"]);
        assert_eq!(
            missing(std::slice::from_ref(&a)),
            ["ferrolb has not reported b"]
        );
        let b = session("b", "192.0.2.2", Established, "11:01");
        assert_eq!(missing(&[a, b]), [""; 0]);
    }

    #[test]
    fn metallb_must_have_the_sessions_again_that_ferrolb_had() {
        let before = names(&["192.0.2.1", "fd00::2"]);
        let now = |now: &[(&str, bool)]| returned(Some(&before), Some(&routers(now)));
        assert_eq!(
            now(&[("192.0.2.1", true), ("fd00::2", false)]),
            Returned::No(vec!["fd00::2".to_owned()])
        );
        assert_eq!(
            now(&[("192.0.2.1", true)]),
            Returned::No(vec!["fd00::2".to_owned()])
        );
        assert_eq!(
            now(&[("192.0.2.1", true), ("fd00::2", true), ("192.0.2.3", false)]),
            Returned::Yes
        );
    }

    #[test]
    fn sessions_that_metallb_does_not_show_are_unknown_and_not_gone() {
        let before = names(&["192.0.2.1"]);
        assert_eq!(returned(Some(&before), None), Returned::Unknown);
        assert_eq!(returned(Some(&names(&[])), None), Returned::Yes);
        // Those of before are unknown.
        assert_eq!(returned(None, None), Returned::Unknown);
        let up = routers(&[("192.0.2.1", true)]);
        assert_eq!(returned(None, Some(&up)), Returned::Yes);
        let down = routers(&[("192.0.2.1", false)]);
        assert_eq!(returned(None, Some(&down)), Returned::Unknown);
    }

    #[test]
    fn sessions_of_ferrolbs_own_bgppeers_are_not_required_of_metallb() {
        use BgpState::Established;
        let mut sessions = vec![
            session("tor", "192.0.2.1", Established, ""),
            session("pods", "192.0.2.7", Established, ""),
            session("pods", "192.0.2.8", Established, ""),
            session("both", "192.0.2.9", Established, ""),
            // Of MetalLB's ConfigMap.
            session("peer-0", "192.0.2.10", Established, ""),
        ];
        let own = names(&["pods", "both"]);
        let taken = take_own(&mut sessions, &own, &names(&["tor", "both"]));
        assert_eq!(taken, names(&["pods"]));
        let required = names(&["192.0.2.1", "192.0.2.10", "192.0.2.9"]);
        assert_eq!(established(&sessions), Some(required));
    }

    #[test]
    fn routers_that_metallb_shows_without_an_address_are_not_compared() {
        use BgpState::{Connect, Established};
        let a = session("a", "fd00:0:0::1", Established, "");
        let down = session("b", "192.0.2.2", Connect, "");
        assert_eq!(established(&[a.clone(), down]), Some(names(&["fd00::1"])));
        assert_eq!(
            established(&[a, session("c", "fe80::1", Established, "")]),
            None
        );
        assert_eq!(established(&[]), Some(names(&[])));
    }
}
