//! Consistency of the ledger's indexes with its holders.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::service::Protocol;

impl Ledger {
    /// Compares the indexes with indexes built from scratch.
    pub(crate) fn assert_consistent(&self) {
        let mut shared: BTreeMap<JoinKey, SharedAddresses> = BTreeMap::new();
        let mut runs = Runs::default();
        for (address, holders) in &self.holders {
            assert!(!holders.members.is_empty(), "{address}");
            runs.insert(*address);
            let mut recomputed = holders.clone();
            recomputed.recompute();
            assert_eq!(recomputed.conflicting, holders.conflicting, "{address}");
            assert_eq!(recomputed.ports, holders.ports, "{address}");
            assert_eq!(recomputed.backends, holders.backends, "{address}");
            for keys in holders.join_keys() {
                let shared = shared.entry(keys).or_default();
                shared.addresses.insert(*address);
                for port in holders.ports.keys() {
                    shared.take(*address, *port);
                }
            }
        }
        assert_eq!(runs.0, self.runs.0);
        assert_eq!(
            shared.keys().collect::<Vec<_>>(),
            self.shared.keys().collect::<Vec<_>>()
        );
        for (keys, expected) in &shared {
            assert_eq!(expected.addresses, self.shared[keys].addresses, "{keys:?}");
            let ports = |shared: &SharedAddresses| -> Vec<_> {
                let ports = shared.ports.iter();
                ports
                    .map(|(port, (runs, count))| (*port, runs.0.clone(), *count))
                    .collect()
            };
            assert_eq!(ports(expected), ports(&self.shared[keys]), "{keys:?}");
        }
    }
}

#[test]
fn runs_at_the_ends_of_a_family() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut runs = Runs::default();
    for last in ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
        runs.insert(ip(last));
        assert_eq!(runs.first_absent(ip(last)), None, "{last}");
    }
    for first in ["0.0.0.0", "::"] {
        runs.insert(ip(first));
        assert_eq!(runs.first_absent(ip(first)), next(ip(first)), "{first}");
    }
    assert_eq!(
        runs.0.len(),
        4,
        "no run crosses from one family into the other"
    );
    for address in ["255.255.255.255", "::", "0.0.0.0"] {
        runs.remove(ip(address));
        runs.remove(ip(address));
        assert_eq!(runs.first_absent(ip(address)), Some(ip(address)));
    }
    assert_eq!(runs.0.len(), 1);
}

#[test]
fn runs_split_and_join() {
    let ip = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
    let mut runs = Runs::default();
    for n in [5, 7, 6, 9, 4, 8] {
        runs.insert(ip(n));
    }
    assert_eq!(runs.0, BTreeMap::from([(ip(4), ip(9))]));
    assert_eq!(runs.first_absent(ip(5)), Some(ip(10)));
    runs.remove(ip(6));
    assert_eq!(runs.0, BTreeMap::from([(ip(4), ip(5)), (ip(7), ip(9))]));
    runs.remove(ip(4));
    runs.remove(ip(9));
    assert_eq!(runs.0, BTreeMap::from([(ip(5), ip(5)), (ip(7), ip(8))]));
    assert_eq!(runs.first_absent(ip(7)), Some(ip(9)));
}

#[test]
fn a_conflict_names_the_same_service_in_any_order_of_insertion() {
    let party = |created: i64, ports: &[u16]| {
        let ports = ports.iter().map(|n| Port {
            protocol: Protocol::Tcp,
            number: *n,
        });
        let request = AllocationRequest {
            created,
            sharing_key: "k".to_owned(),
            ports: ports.collect(),
            ..AllocationRequest::new(ServiceKey::new("ns", format!("s{created}")))
        };
        Claimant::of(&Arc::new(request))
    };
    let parties = [party(1, &[82]), party(2, &[81]), party(3, &[81, 82])];
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut ledger = Ledger::default();
        for claimant in order.map(|i| parties[i].clone()) {
            ledger.insert(address, claimant);
        }
        ledger.assert_consistent();
        let (by, _) = ledger.conflict(address, &parties[2]).unwrap();
        assert_eq!(&*by.name, "s2", "{order:?}");
    }
}
