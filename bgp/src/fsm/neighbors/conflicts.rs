//! Conflicts of peers: which two cannot run on one speaker. One function per rule.

use std::fmt;

use crate::config::PeerConfig;

/// A transport option that two peers with the same address cannot have with different values. The
/// kernel has one MD5 key per address, and the others must be set before we know to which of the
/// two an incoming connection belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedOption {
    /// The TCP MD5 password.
    Password,
    /// TTL security (RFC 5082).
    TtlSecurity,
    /// The source interface.
    SourceInterface,
}

impl fmt::Display for SharedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password => "password",
            Self::TtlSecurity => "TTL security",
            Self::SourceInterface => "source interface",
        })
    }
}

/// Whether both peers are the same router or network. Unnumbered ones are if they are on the same
/// interface; a link-local address can belong to a router on each interface.
fn is_same_remote(one: &PeerConfig, two: &PeerConfig) -> bool {
    if one.remote.is_unnumbered() && two.remote.is_unnumbered() {
        return one.transport.source_interface == two.transport.source_interface;
    }
    has_same_address(one, two)
}

/// Whether both peers have the same address, on whatever interface.
fn has_same_address(one: &PeerConfig, two: &PeerConfig) -> bool {
    let is_known = one.remote.is_known() && two.remote.is_known();
    is_known && one.remote.network() == two.remote.network()
}

/// Whether both peers would have the same session: routers identify neighbors by address. A peer
/// that we dial may have its own port; a peer that dials us connects from any port.
#[must_use]
pub fn have_same_session(one: &PeerConfig, two: &PeerConfig) -> bool {
    let same_port = match (one.dials(), two.dials()) {
        (Some(one), Some(two)) => one.port() == two.port(),
        _ => true,
    };
    is_same_remote(one, two)
        && one.transport.source_address == two.transport.source_address
        && same_port
}

/// The options with different values that two peers with the same address must share.
pub fn different_options(
    one: &PeerConfig,
    two: &PeerConfig,
) -> impl Iterator<Item = SharedOption> + use<> {
    let same_address = has_same_address(one, two);
    // Connections of unnumbered peers are distinguished by interface, but MD5 keys are not.
    let only_key = one.remote.is_unnumbered() && two.remote.is_unnumbered();
    let (one, two) = (&one.transport, &two.transport);
    [
        (SharedOption::Password, one.password != two.password),
        (
            SharedOption::TtlSecurity,
            one.ttl_security != two.ttl_security,
        ),
        (
            SharedOption::SourceInterface,
            one.source_interface != two.source_interface,
        ),
    ]
    .into_iter()
    .filter(move |(option, differs)| {
        same_address && *differs && (!only_key || *option == SharedOption::Password)
    })
    .map(|(option, _)| option)
}

/// Whether the network of `outer` contains `inner`. Then both need a password or neither: the
/// kernel requires a network's MD5 key of every address in it that has no key of its own.
#[must_use]
pub fn is_within(inner: &PeerConfig, outer: &PeerConfig) -> bool {
    let is_known = inner.remote.is_known() && outer.remote.is_known();
    let (inner, outer) = (inner.remote.network(), outer.remote.network());
    is_known && inner != outer && outer.contains(&inner)
}

/// Whether `inner` has no password but is in the network of `outer`, which has one.
fn is_md5_shadowed(inner: &PeerConfig, outer: &PeerConfig) -> bool {
    is_within(inner, outer)
        && inner.transport.password.is_none()
        && outer.transport.password.is_some()
}

/// Why `config` cannot run beside `other`, with what to do about it.
pub(super) fn conflict(config: &PeerConfig, other: &PeerConfig) -> Option<String> {
    let name = &other.name;
    if have_same_session(config, other) {
        return Some(format!(
            "peer {name} has the same address (or, unnumbered, the same interface) and the same \
             source address; configure a source address for each, or remove one"
        ));
    }
    if let Some(option) = different_options(config, other).next() {
        return Some(format!(
            "peer {name} has the same address but another {option}; configure the same for both, \
             or remove one"
        ));
    }
    let pairs = [(config, other), (other, config)];
    let shadowed = pairs
        .into_iter()
        .find(|(inner, outer)| is_md5_shadowed(inner, outer));
    shadowed.map(|(inner, outer)| {
        format!(
            "peer {} has a password and its network {} contains {}, which has none (peer {}): \
             configure a password for that peer too, or a network without it",
            outer.name,
            outer.remote.network(),
            inner.remote.network(),
            inner.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Remote, Secret};
    use crate::wire::Asn;

    fn peer(name: &str, remote: &str) -> PeerConfig {
        PeerConfig::new(name, remote.parse().unwrap(), Asn(65001), Asn(65002))
    }

    fn rack() -> PeerConfig {
        let mut rack = peer("rack", "10.0.0.0:179");
        rack.remote = Remote::Network("10.0.0.0/24".parse().unwrap());
        rack
    }

    #[test]
    fn two_peers_have_the_same_session_if_routers_see_one_neighbor() {
        let one = peer("one", "10.0.0.2:179");
        let mut two = peer("two", "10.0.0.2:1179");
        assert!(!have_same_session(&one, &two));
        two.transport.passive = true;
        assert!(have_same_session(&one, &two));
        two.transport.source_address = Some("10.0.0.1".parse().unwrap());
        assert!(!have_same_session(&one, &two));
        assert!(!have_same_session(&one, &peer("two", "10.0.0.3:179")));
    }

    #[test]
    fn peers_with_one_address_share_their_tcp_options() {
        let one = peer("one", "10.0.0.2:179");
        let mut two = peer("two", "10.0.0.2:1179");
        assert_eq!(different_options(&one, &two).next(), None);
        two.transport.password = Some(Secret::new("secret"));
        two.transport.ttl_security = Some(1);
        let options: Vec<_> = different_options(&one, &two).collect();
        let expected = [SharedOption::Password, SharedOption::TtlSecurity];
        assert_eq!(options, expected);
        two.remote = "10.0.0.3:179".parse().map(Remote::Router).unwrap();
        assert_eq!(different_options(&one, &two).next(), None);
    }

    #[test]
    fn a_network_with_a_password_shadows_a_peer_without_one() {
        let (mut inner, mut outer) = (peer("one", "10.0.0.2:179"), rack());
        assert!(!is_md5_shadowed(&inner, &outer));
        outer.transport.password = Some(Secret::new("secret"));
        assert!(is_md5_shadowed(&inner, &outer));
        assert!(!is_md5_shadowed(&outer, &inner));
        assert!(conflict(&outer, &inner).is_some());
        inner.transport.password = Some(Secret::new("another"));
        assert!(!is_md5_shadowed(&inner, &outer));
    }
}
