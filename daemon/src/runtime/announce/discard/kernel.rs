//! Discards packets by the kernel of this host.
//!
//! For each address family there are two policy rules and a table of blackhole routes. Both rules
//! apply to packets that the host forwards, not to those of its processes, whose connections to the
//! address of a service are rewritten only after the lookup:
//!
//! ```text
//! 32764: not iif lo lookup main suppress_prefixlength 31
//! 32765: not iif lo lookup 1717922914        # blackhole 192.168.5.0/24
//! 32766: lookup main
//! ```
//!
//! The local table comes before them, and so do rules that others added, for instance for packets
//! with a mark. The first one lets host routes of the main table take precedence: some service
//! proxies deliver by such routes (Antrea). Those that rewrite packets, such as kube-proxy, do that
//! before the lookup.

use std::io;

use ferrolb_allocator::Family;
use ipnet::IpNet;

use super::Table;
use super::netlink::{Netlink, Rule, kind};

/// Our table: the octets of "felb".
const TABLE: u32 = 0x6665_6c62;
/// The kernel's main table, and the priority of its rule.
const MAIN: u32 = 254;
const MAIN_PRIORITY: u32 = 32766;
/// Marks our rules and routes in the output of `ip rule` and `ip route`. Unassigned.
const PROTOCOL: u8 = 102;

/// The rules and the table of this host.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    netlink: Option<Netlink>,
}

impl Kernel {
    fn netlink(&mut self) -> io::Result<&mut Netlink> {
        match &mut self.netlink {
            Some(netlink) => Ok(netlink),
            none => Ok(none.insert(Netlink::open()?)),
        }
    }
}

fn rules(family: Family) -> [Rule; 2] {
    let host_routes_of_main = Rule {
        family,
        priority: MAIN_PRIORITY - 2,
        table: MAIN,
        suppressed: Some(family.bits() - 1),
    };
    let discard = Rule {
        family,
        priority: MAIN_PRIORITY - 1,
        table: TABLE,
        suppressed: None,
    };
    [host_routes_of_main, discard]
}

impl Table for Kernel {
    fn add_rules(&mut self, family: Family) -> io::Result<()> {
        let netlink = self.netlink()?;
        for rule in rules(family) {
            match netlink.rule(kind::NEW_RULE, rule, PROTOCOL) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn remove_rules(&mut self, family: Family) -> io::Result<()> {
        let netlink = self.netlink()?;
        // The one that discards first: the other one alone changes nothing.
        for rule in rules(family).into_iter().rev() {
            match netlink.rule(kind::DELETE_RULE, rule, PROTOCOL) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn add(&mut self, prefix: IpNet) -> io::Result<()> {
        let netlink = self.netlink()?;
        netlink.route(kind::NEW_ROUTE, prefix, TABLE, PROTOCOL)
    }

    fn remove(&mut self, prefix: IpNet) -> io::Result<()> {
        let netlink = self.netlink()?;
        match netlink.route(kind::DELETE_ROUTE, prefix, TABLE, PROTOCOL) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Ok(())
            }
            other => other,
        }
    }

    fn has_rules(&mut self, family: Family) -> io::Result<bool> {
        self.netlink()?.has_rule(family, TABLE)
    }

    fn prefixes(&mut self, family: Family) -> io::Result<Vec<IpNet>> {
        self.netlink()?.prefixes(family, TABLE)
    }
}
