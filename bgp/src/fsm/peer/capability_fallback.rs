//! What the peer refused of our OPEN, and what is offered to it without (RFC 5492 §3–5).

use crate::config::PeerConfig;
use crate::wire::{
    Asn, Capability, CapabilityCode, ErrorCode, Family, Notification, Open, subcode,
};

/// One capability, whatever its value; of a family, where there is one for each.
type Kind = (CapabilityCode, Option<Family>);

/// Capabilities that OPENs to a peer go without. As many as we know at most, whatever the peer says.
#[derive(Debug, Default)]
pub(in crate::fsm) struct Refusals(Vec<Kind>);

impl Refusals {
    /// A stable session, or a new configuration: all is offered again.
    pub(in crate::fsm) fn reset(&mut self) {
        self.0.clear();
    }

    /// The same OPEN without what was refused.
    pub(in crate::fsm) fn without(&self, mut open: Open) -> Open {
        open.capabilities.retain(|c| !self.0.contains(&kind(c)));
        open
    }

    /// Learns from the peer's answer to `sent`; what the next OPEN will go without for it.
    pub(in crate::fsm) fn learn(
        &mut self,
        notification: &Notification,
        sent: &Open,
        config: &PeerConfig,
    ) -> Vec<Capability> {
        let refused = |capability: &&Capability| match (notification.code, notification.subcode) {
            (ErrorCode::OPEN, subcode::open::UNSUPPORTED_OPTIONAL_PARAMETER) => true,
            (ErrorCode::OPEN, subcode::open::UNSUPPORTED_CAPABILITY) => {
                let listed = notification.capabilities();
                notification.data.is_empty() || listed.iter().any(|l| kind(l) == kind(capability))
            }
            _ => false,
        };
        let mut dropped: Vec<Capability> =
            sent.capabilities.iter().filter(refused).cloned().collect();
        let family_stays = sent.capabilities.iter().any(|capability| {
            matches!(capability, Capability::Multiprotocol(_)) && !dropped.contains(capability)
        });
        // An OPEN that names no family offers IPv4 unicast (RFC 4760 §8): is that enough?
        let no_family_needed = family_stays || config.families.contains(&Family::IPV4_UNICAST);
        dropped.retain(|capability| match capability {
            Capability::Multiprotocol(_) => no_family_needed,
            Capability::FourOctetAsn(asn) => !identifies(*asn, config),
            _ => true,
        });
        self.0.extend(dropped.iter().map(kind));
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

/// Whether the session can't do with `AS_TRANS` in place of this number: both ends of iBGP have
/// to have the same one.
fn identifies(asn: Asn, config: &PeerConfig) -> bool {
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

    /// What is offered after the answer.
    fn after(answer: &Notification, config: &PeerConfig) -> Vec<Capability> {
        let mut refusals = Refusals::default();
        let sent = open(config);
        let dropped = refusals.learn(answer, &sent, config);
        let next = refusals.without(sent.clone());
        assert_eq!(
            next.capabilities.len() + dropped.len(),
            sent.capabilities.len()
        );
        // Nothing new comes of the same answer to the new OPEN.
        assert_eq!(refusals.learn(answer, &next, config), []);
        assert_eq!(refusals.without(sent), next);
        next.capabilities
    }

    #[test]
    fn who_knows_no_capabilities_gets_an_open_without_any() {
        let config = config(&[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
        assert_eq!(after(&optional_parameter(), &config), []);
        assert_eq!(after(&unsupported(&[]), &config), []);
    }

    #[test]
    fn the_only_family_stays_if_no_open_could_mean_it_by_silence() {
        let v6 = config(&[Family::IPV6_UNICAST]);
        let left = [Capability::Multiprotocol(Family::IPV6_UNICAST)];
        assert_eq!(after(&optional_parameter(), &v6), left);
        assert!(after(&unsupported(&[1, 4, 0, 2, 0, 1]), &v6).contains(&left[0]));
    }

    #[test]
    fn only_what_is_listed_is_left_out() {
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
        // Not ours, and nothing readable.
        for data in [&[69, 4, 0, 1, 1, 1][..], &[1, 200, 0]] {
            assert_eq!(after(&unsupported(data), &both), open(&both).capabilities);
        }
    }

    #[test]
    fn a_long_as_number_of_ibgp_is_not_given_up() {
        let mut config = config(&[Family::IPV4_UNICAST]);
        config.local_asn = Asn(4_200_000_001);
        assert_eq!(after(&optional_parameter(), &config), []);
        config.remote_asn = RemoteAsn::Internal;
        let left = [Capability::FourOctetAsn(config.local_asn)];
        assert_eq!(after(&optional_parameter(), &config), left);
    }

    #[test]
    fn other_notifications_teach_nothing() {
        let config = config(&[Family::IPV4_UNICAST]);
        let cease = Notification::cease(subcode::cease::CONNECTION_REJECTED);
        assert_eq!(after(&cease, &config), open(&config).capabilities);
    }
}
