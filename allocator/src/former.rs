//! The former addresses of services that are gone: a service that is created again under its name
//! gets them back while they are free.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::runs::Runs;
use crate::service::ServiceKey;

/// Maximum number of services whose addresses are remembered. The one that is gone for the longest
/// time is forgotten first.
const SERVICES_MAX: usize = 1024;

/// The addresses that services had before they were deleted, or before their status was cleared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Former {
    services: BTreeMap<ServiceKey, (u64, Vec<IpAddr>)>,
    /// By the order in which they are gone.
    order: BTreeMap<u64, ServiceKey>,
    last: u64,
    /// The number of services that had each address.
    counts: BTreeMap<IpAddr, usize>,
    runs: Runs,
}

impl Former {
    /// The addresses that a service had.
    pub(crate) fn of(&self, service: &ServiceKey) -> &[IpAddr] {
        self.services
            .get(service)
            .map_or(&[], |(_, addresses)| addresses)
    }

    /// Remembers the addresses of a service that is gone.
    pub(crate) fn remember(&mut self, service: &ServiceKey, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        self.forget(service);
        self.last += 1;
        for address in addresses {
            *self.counts.entry(*address).or_default() += 1;
            self.runs.insert(*address);
        }
        self.order.insert(self.last, service.clone());
        let entry = (self.last, addresses.to_vec());
        self.services.insert(service.clone(), entry);
        if self.services.len() > SERVICES_MAX
            && let Some(oldest) = self.order.values().next().cloned()
        {
            self.forget(&oldest);
        }
    }

    /// Forgets a service, because it has addresses again.
    pub(crate) fn forget(&mut self, service: &ServiceKey) {
        let Some((order, addresses)) = self.services.remove(service) else {
            return;
        };
        self.order.remove(&order);
        for address in addresses {
            let Some(count) = self.counts.get_mut(&address) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
                self.runs.remove(address);
            }
        }
    }

    /// If a service had the address: the last one of the addresses that follow it without a gap
    /// and that services had too.
    pub(crate) fn end_of_run(&self, address: IpAddr) -> Option<IpAddr> {
        self.runs.containing(address).map(|(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey::new("ns", name)
    }

    fn ips(list: &str) -> Vec<IpAddr> {
        list.split(' ').map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_of_several_services_is_spared_until_the_last_one_is_forgotten() {
        let mut former = Former::default();
        former.remember(&key("a"), &ips("10.0.0.1 fc00::1"));
        former.remember(&key("b"), &ips("10.0.0.1"));
        former.remember(&key("c"), &ips("10.0.0.2"));
        former.remember(&key("c"), &[]);
        let end = |former: &Former| former.end_of_run(ips("10.0.0.1")[0]);
        assert_eq!(end(&former), Some(ips("10.0.0.2")[0]));
        assert_eq!(former.of(&key("a")), ips("10.0.0.1 fc00::1"));
        former.forget(&key("a"));
        former.forget(&key("a"));
        assert_eq!(end(&former), Some(ips("10.0.0.2")[0]));
        former.forget(&key("b"));
        assert_eq!(end(&former), None);
        assert!(former.of(&key("b")).is_empty());
    }

    #[test]
    fn the_services_that_are_gone_for_the_longest_time_are_forgotten_first() {
        let mut former = Former::default();
        let address = |number: usize| {
            let number = u32::try_from(number).unwrap();
            IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number))
        };
        for number in 0..SERVICES_MAX {
            former.remember(&key(&number.to_string()), &[address(number)]);
        }
        // The first one was gone again, so it is the youngest.
        former.remember(&key("0"), &[address(0)]);
        former.remember(&key("one more"), &[address(SERVICES_MAX)]);
        assert_eq!(former.services.len(), SERVICES_MAX);
        assert!(former.of(&key("1")).is_empty());
        assert_eq!(former.of(&key("0")), [address(0)]);
        assert_eq!(former.end_of_run(address(1)), None);
        assert_eq!(former.counts.len(), SERVICES_MAX);
        assert_eq!(former.order.len(), SERVICES_MAX);
    }
}
