//! Conditions of an interface that an operator should know.

use std::collections::BTreeSet;
use std::fs;

use crate::interface::Interface;

/// What is known of an interface.
#[derive(Debug)]
pub(super) struct Conditions<'a> {
    pub(super) interface: &'a Interface,
    /// The name of a bond mode that changes frames.
    pub(super) rewriting_bond_mode: Option<&'static str>,
    /// Whether the node has other usable interfaces.
    pub(super) one_of_several: bool,
    /// The number of IPv6 groups that could not be joined.
    pub(super) failed_groups: usize,
}

impl Conditions<'_> {
    /// The warnings, in plain words.
    pub(super) fn warnings(&self) -> BTreeSet<String> {
        let name = &self.interface.name;
        let mut warnings = BTreeSet::new();
        if self.interface.loopback {
            return warnings;
        }
        if let Some(mode) = self.rewriting_bond_mode {
            warnings.insert(format!(
                "the bond's mode {mode} changes the Ethernet addresses in frames that this node \
                 sends: clients may see several for one address; set the mode active-backup or \
                 802.3ad"
            ));
        }
        if self.one_of_several && has_strict_rp_filter(name) {
            warnings.insert(format!(
                "rp_filter is 1 (strict) and the node has several interfaces: the kernel drops \
                 packets of clients if its route to them is not on {name}; set \
                 net.ipv4.conf.{name}.rp_filter=2"
            ));
        }
        if self.failed_groups > 0 {
            warnings.insert(format!(
                "{} IPv6 groups could not be joined: switches that snoop MLD may drop Neighbor \
                 Solicitations; enable IPv6 on {name} or raise net.core.optmem_max",
                self.failed_groups
            ));
        }
        warnings
    }
}

/// Whether the kernel accepts IPv4 packets only if the route to their source is on the interface
/// that they arrive on: the higher one of two settings applies (ip-sysctl: `rp_filter`).
fn has_strict_rp_filter(interface: &str) -> bool {
    let mode = |name: &str| -> u8 {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    mode("all").max(mode(interface)) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::IfIndex;
    use crate::mac::Mac;

    fn interface(loopback: bool) -> Interface {
        Interface {
            index: IfIndex(2),
            name: "no-such-one".into(),
            mac: Mac::ZERO,
            mtu: 1500,
            carrier: true,
            loopback,
            networks: Vec::new(),
            gateways: Vec::new(),
        }
    }

    fn warnings(loopback: bool, mode: Option<&'static str>, failed_groups: usize) -> Vec<String> {
        let conditions = Conditions {
            interface: &interface(loopback),
            rewriting_bond_mode: mode,
            one_of_several: false,
            failed_groups,
        };
        conditions.warnings().into_iter().collect()
    }

    #[test]
    fn warnings_name_the_condition_and_the_remedy() {
        assert_eq!(warnings(false, None, 0), [""; 0]);
        let bond = warnings(false, Some("balance-alb"), 0);
        assert!(bond[0].contains("mode balance-alb"), "{bond:?}");
        assert!(bond[0].contains("set the mode active-backup"), "{bond:?}");
        let groups = warnings(false, None, 7);
        assert!(groups[0].starts_with("7 IPv6 groups"), "{groups:?}");
        assert!(
            groups[0].contains("enable IPv6 on no-such-one"),
            "{groups:?}"
        );
    }

    #[test]
    fn the_loopback_interface_has_no_warnings() {
        assert_eq!(warnings(true, Some("balance-alb"), 7), [""; 0]);
    }
}
