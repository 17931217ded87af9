//! Capability fallback: the next OPEN leaves out the capabilities that the peer rejected
//! (RFC 5492 §3–5).

use crate::config::PeerConfig;
use crate::wire::{
    Asn, Capability, CapabilityCode, ErrorCode, Family, Notification, Open, subcode,
};

/// A capability without its value, and its family if it has one.
type Kind = (CapabilityCode, Option<Family>);

/// The capabilities that are left out of OPENs to one peer: only such as we sent, so the list stays
/// short whatever the peer sends.
#[derive(Debug, Default)]
pub(super) struct CapabilityFallback {
    dropped: Vec<Kind>,
}

impl CapabilityFallback {
    /// Offers everything again: a session was stable, or the configuration changed.
    pub(super) fn reset(&mut self) {
        self.dropped.clear();
    }

    /// The OPEN without the capabilities that the peer rejected.
    pub(super) fn apply(&self, mut open: Open) -> Open {
        open.capabilities
            .retain(|capability| !self.dropped.contains(&kind(capability)));
        open
    }

    /// Takes the peer's answer to the OPEN `sent`. Returns the capabilities that the next OPEN
    /// leaves out because of it.
    pub(super) fn learn(
        &mut self,
        notification: &Notification,
        sent: &Open,
        config: &PeerConfig,
    ) -> Vec<Capability> {
        let rejected = |capability: &&Capability| match (notification.code, notification.subcode) {
            (ErrorCode::OPEN, subcode::open::UNSUPPORTED_OPTIONAL_PARAMETER) => true,
            (ErrorCode::OPEN, subcode::open::UNSUPPORTED_CAPABILITY) => {
                let listed = notification.capabilities();
                notification.data.is_empty() || listed.iter().any(|l| kind(l) == kind(capability))
            }
            _ => false,
        };
        let mut dropped: Vec<Capability> =
            sent.capabilities.iter().filter(rejected).cloned().collect();
        let family_stays = sent.capabilities.iter().any(|capability| {
            matches!(capability, Capability::Multiprotocol(_)) && !dropped.contains(capability)
        });
        // An OPEN that names no family offers IPv4 unicast (RFC 4760 §8).
        let no_family_needed = family_stays || config.families.contains(&Family::IPV4_UNICAST);
        dropped.retain(|capability| match capability {
            Capability::Multiprotocol(_) => no_family_needed,
            Capability::FourOctetAsn(asn) => !is_indispensable(*asn, config),
            _ => true,
        });
        self.dropped.extend(dropped.iter().map(kind));
        dropped
    }
}

fn kind(capability: &Capability) -> Kind {
    let family = match capability {
        Capability::Multiprotocol(family) => Some(*family),
        _ => None,
    };
    (capability.code(), family)
}

/// Whether `AS_TRANS` cannot stand for this number: both ends of iBGP need the same one.
fn is_indispensable(asn: Asn, config: &PeerConfig) -> bool {
    asn.is_four_octet() && config.remote_asn.accepts(asn, asn)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::RemoteAsn;

    fn config(families: &[Family]) -> PeerConfig {
        let address = "10.0.0.2:179".parse().unwrap();
        PeerConfig {
            families: families.to_vec(),
            ..PeerConfig::new("tor", address, Asn(65001), Asn(65002))
        }
    }

    fn open(config: &PeerConfig) -> Open {
        let router_id = Ipv4Addr::new(10, 0, 0, 1);
        Open::new(config.local_asn, 90, router_id, &config.families)
            .with(Capability::ExtendedMessage)
    }

    fn optional_parameter() -> Notification {
        let subcode = subcode::open::UNSUPPORTED_OPTIONAL_PARAMETER;
        Notification::new(ErrorCode::OPEN, subcode)
    }

    fn unsupported(data: &[u8]) -> Notification {
        let subcode = subcode::open::UNSUPPORTED_CAPABILITY;
        Notification::new(ErrorCode::OPEN, subcode).with_data(data.to_vec())
    }

    /// The capabilities of the OPEN after this answer.
    fn after(answer: &Notification, config: &PeerConfig) -> Vec<Capability> {
        let mut fallback = CapabilityFallback::default();
        let sent = open(config);
        let dropped = fallback.learn(answer, &sent, config);
        let next = fallback.apply(sent.clone());
        assert_eq!(
            next.capabilities.len() + dropped.len(),
            sent.capabilities.len()
        );
        // The same answer to the new OPEN changes nothing.
        assert_eq!(fallback.learn(answer, &next, config), []);
        assert_eq!(fallback.apply(sent), next);
        next.capabilities
    }

    #[test]
    fn a_peer_without_capability_support_gets_an_open_without_capabilities_rfc5492_3() {
        let config = config(&[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
        assert_eq!(after(&optional_parameter(), &config), []);
        assert_eq!(after(&unsupported(&[]), &config), []);
    }

    #[test]
    fn the_only_family_stays_unless_it_is_ipv4_unicast_rfc4760_8() {
        let v6 = config(&[Family::IPV6_UNICAST]);
        let left = [Capability::Multiprotocol(Family::IPV6_UNICAST)];
        assert_eq!(after(&optional_parameter(), &v6), left);
        assert!(after(&unsupported(&[1, 4, 0, 2, 0, 1]), &v6).contains(&left[0]));
    }

    #[test]
    fn only_listed_capabilities_are_dropped_rfc5492_5() {
        let both = config(&[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
        let left = after(&unsupported(&[1, 4, 0, 2, 0, 1, 6, 0]), &both);
        assert_eq!(
            left,
            [
                Capability::Multiprotocol(Family::IPV4_UNICAST),
                Capability::RouteRefresh,
                Capability::FourOctetAsn(Asn(65001)),
            ]
        );
        // A capability that we did not send, and malformed data.
        for data in [&[69, 4, 0, 1, 1, 1][..], &[1, 200, 0]] {
            assert_eq!(after(&unsupported(data), &both), open(&both).capabilities);
        }
    }

    #[test]
    fn a_four_octet_as_number_of_ibgp_is_never_dropped() {
        let mut config = config(&[Family::IPV4_UNICAST]);
        config.local_asn = Asn(4_200_000_001);
        assert_eq!(after(&optional_parameter(), &config), []);
        config.remote_asn = RemoteAsn::Internal;
        let left = [Capability::FourOctetAsn(config.local_asn)];
        assert_eq!(after(&optional_parameter(), &config), left);
    }

    #[test]
    fn other_notifications_drop_nothing() {
        let config = config(&[Family::IPV4_UNICAST]);
        let cease = Notification::cease(subcode::cease::CONNECTION_REJECTED);
        assert_eq!(after(&cease, &config), open(&config).capabilities);
    }
}
