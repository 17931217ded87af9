//! Requests to the kernel over rtnetlink(7): policy rules and blackhole routes. They need the
//! capability NET_ADMIN, except lists.

use std::io;
use std::os::fd::OwnedFd;

use ferrolb_allocator::Family;
use ipnet::IpNet;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// Octets of the header of a message (RFC 3549 §2.3.2), of the fixed part behind it (`fib_rule_hdr`
/// and `rtmsg`), and of the header of an attribute.
const MESSAGE_HEADER: usize = 16;
const FIXED_PART: usize = 12;
const ATTRIBUTE_HEADER: usize = 4;

/// The kernel fills up to 32 KiB of a list at a time.
const BUFFER: usize = 64 << 10;

/// Kinds of messages, of `<linux/netlink.h>` and `<linux/rtnetlink.h>`.
pub(super) mod kind {
    pub(super) const ERROR: u16 = 2;
    pub(super) const DONE: u16 = 3;
    pub(in super::super) const NEW_ROUTE: u16 = 24;
    pub(in super::super) const DELETE_ROUTE: u16 = 25;
    pub(super) const GET_ROUTE: u16 = 26;
    pub(in super::super) const NEW_RULE: u16 = 32;
    pub(in super::super) const DELETE_RULE: u16 = 33;
    pub(super) const GET_RULE: u16 = 34;
}

/// Flags of requests, of `<linux/netlink.h>`.
mod flag {
    pub(super) const REQUEST: u16 = 1;
    pub(super) const ACK: u16 = 4;
    pub(super) const DUMP: u16 = 0x300;
    pub(super) const REPLACE: u16 = 0x100;
    pub(super) const EXCLUSIVE: u16 = 0x200;
    pub(super) const CREATE: u16 = 0x400;
}

/// Attributes of rules (`FRA_…`, `<linux/fib_rules.h>`) and routes (`RTA_…`).
mod attribute {
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const INPUT_INTERFACE: u16 = 3;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const SUPPRESS_PREFIX_LENGTH: u16 = 14;
    /// The same number in both.
    pub(super) const TABLE: u16 = 15;
    pub(super) const RULE_PROTOCOL: u16 = 21;
}

const ACTION_TABLE: u8 = 1;
const RULE_INVERT: u32 = 2;
const ROUTE_BLACKHOLE: u8 = 6;
/// Any scope, in requests to delete.
const SCOPE_NOWHERE: u8 = 255;

/// A policy rule for packets that the node forwards: those that no process of the node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) family: Family,
    /// Rules with lower numbers come first.
    pub(super) priority: u32,
    /// The table that it looks up.
    pub(super) table: u32,
    /// Routes of this length and shorter ones don't count.
    pub(super) suppressed: Option<u8>,
}

/// A socket of rtnetlink for requests.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// The error of the kernel.
    pub(super) fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is 0. The kernel answers before `send` returns, so no call blocks.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // A connected socket receives from the kernel only, not from other processes.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Adds or deletes a rule. `protocol` marks whose it is, for people who list the rules.
    ///
    /// # Errors
    /// The error of the kernel: `EEXIST` or `ENOENT` if nothing is to be done.
    pub(super) fn rule(&mut self, kind: u16, rule: Rule, protocol: u8) -> io::Result<()> {
        let flags = match kind {
            kind::NEW_RULE => flag::CREATE | flag::EXCLUSIVE,
            _ => 0,
        };
        self.request(kind, flags, &encode_rule(rule, protocol))
    }

    /// Adds, replaces or deletes a blackhole route.
    ///
    /// # Errors
    /// The error of the kernel: `ESRCH` if there is no route to delete.
    pub(super) fn route(
        &mut self,
        kind: u16,
        prefix: IpNet,
        table: u32,
        protocol: u8,
    ) -> io::Result<()> {
        let deletes = kind == kind::DELETE_ROUTE;
        let flags = if deletes {
            0
        } else {
            flag::CREATE | flag::REPLACE
        };
        let scope = if deletes { SCOPE_NOWHERE } else { 0 };
        let body = encode_route(prefix, table, protocol, scope);
        self.request(kind, flags, &body)
    }

    /// Whether a rule of this family looks up a table.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn has_rule(&mut self, family: Family, table: u32) -> io::Result<bool> {
        let mut found = false;
        self.list(kind::GET_RULE, family, |body| {
            found |= table_of(body) == Some(table);
        })?;
        Ok(found)
    }

    /// The prefixes of a table.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn prefixes(&mut self, family: Family, table: u32) -> io::Result<Vec<IpNet>> {
        let mut prefixes = Vec::new();
        self.list(kind::GET_ROUTE, family, |body| {
            if table_of(body) == Some(table) {
                prefixes.extend(destination(body, family));
            }
        })?;
        Ok(prefixes)
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, flags | flag::ACK, body)?;
        self.receive(|_| {})
    }

    fn list(&mut self, kind: u16, family: Family, each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut body = vec![0; FIXED_PART];
        if let Some(octet) = body.first_mut() {
            *octet = number(family);
        }
        self.send(kind, flag::DUMP, &body)?;
        self.receive(each)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(MESSAGE_HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | flag::REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        // The port number of the sender, which the kernel knows.
        message.extend([0; 4]);
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Reads the answer to the last request, up to its end.
    fn receive(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let answers = messages(buffer.get(..length).unwrap_or_default());
            for (kind, sequence, payload) in answers {
                match kind {
                    _ if sequence != self.sequence => {}
                    kind::ERROR | kind::DONE => return outcome(payload),
                    _ => each(payload),
                }
            }
        }
    }
}

/// The payload of an acknowledgement begins with 0 or a negative error number.
fn outcome(payload: &[u8]) -> io::Result<()> {
    let octets = payload.first_chunk().copied().unwrap_or_default();
    match i32::from_ne_bytes(octets) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
    }
}

/// The number of the address family.
fn number(family: Family) -> u8 {
    let family = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    u8::try_from(family.as_raw()).unwrap_or_default()
}

/// `fib_rule_hdr` and its attributes.
fn encode_rule(rule: Rule, protocol: u8) -> Vec<u8> {
    let mut body = vec![number(rule.family), 0, 0, 0, 0, 0, 0, ACTION_TABLE];
    body.extend(RULE_INVERT.to_ne_bytes());
    // Inverted: every interface but this one, which what a process sends seems to come from. An
    // inverted rule can't select a prefix as well: it would select all others.
    add(&mut body, attribute::INPUT_INTERFACE, b"lo\0");
    add(&mut body, attribute::PRIORITY, &rule.priority.to_ne_bytes());
    add(&mut body, attribute::TABLE, &rule.table.to_ne_bytes());
    if let Some(length) = rule.suppressed {
        let length = u32::from(length).to_ne_bytes();
        add(&mut body, attribute::SUPPRESS_PREFIX_LENGTH, &length);
    }
    add(&mut body, attribute::RULE_PROTOCOL, &[protocol]);
    body
}

/// `rtmsg` and its attributes.
fn encode_route(prefix: IpNet, table: u32, protocol: u8, scope: u8) -> Vec<u8> {
    let family = number(Family::of(prefix.addr()));
    let mut body = vec![
        family,
        prefix.prefix_len(),
        0,
        0,
        0,
        protocol,
        scope,
        ROUTE_BLACKHOLE,
    ];
    body.extend([0; 4]);
    match prefix {
        IpNet::V4(prefix) => add(
            &mut body,
            attribute::DESTINATION,
            &prefix.network().octets(),
        ),
        IpNet::V6(prefix) => add(
            &mut body,
            attribute::DESTINATION,
            &prefix.network().octets(),
        ),
    }
    add(&mut body, attribute::TABLE, &table.to_ne_bytes());
    body
}

/// Appends an attribute. The next one begins at a multiple of four octets.
fn add(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(aligned(body.len()), 0);
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// Kind, sequence number and payload of the messages of a datagram. Ends at the first malformed
/// one.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*datagram.get(8..)?.first_chunk()?);
        let payload = datagram.get(MESSAGE_HEADER..length)?;
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some((kind, sequence, payload))
    })
}

/// The attributes behind the fixed part. Ends at the first malformed one.
fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut octets = body.get(FIXED_PART..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*octets.first_chunk()?));
        let kind = u16::from_ne_bytes(*octets.get(2..)?.first_chunk()?);
        let value = octets.get(ATTRIBUTE_HEADER..length)?;
        octets = octets.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn value(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

fn table_of(body: &[u8]) -> Option<u32> {
    let octets = value(body, attribute::TABLE)?;
    octets
        .first_chunk()
        .map(|octets| u32::from_ne_bytes(*octets))
}

/// The prefix of a route.
fn destination(body: &[u8], family: Family) -> Option<IpNet> {
    let octets = value(body, attribute::DESTINATION)?;
    let address = match family {
        Family::V4 => (*octets.first_chunk::<4>()?).into(),
        Family::V6 => (*octets.first_chunk::<16>()?).into(),
    };
    IpNet::new(address, *body.get(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_encoded_is_read_again() {
        for text in ["192.168.5.0/24", "2001:db8::/64"] {
            let prefix: IpNet = text.parse().expect("a prefix");
            let body = encode_route(prefix, 70_000, 102, 0);
            assert_eq!(destination(&body, Family::of(prefix.addr())), Some(prefix));
            assert_eq!(table_of(&body), Some(70_000));
        }
    }

    #[test]
    fn a_rule_selects_no_prefix_since_it_is_inverted() {
        let rule = Rule {
            family: Family::V4,
            priority: 7,
            table: 254,
            suppressed: Some(31),
        };
        let body = encode_rule(rule, 102);
        let kinds: Vec<u16> = attributes(&body).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [3, 6, 15, 14, 21]);
        assert_eq!(body.get(8..12), Some(&RULE_INVERT.to_ne_bytes()[..]));
        assert_eq!(value(&body, attribute::INPUT_INTERFACE), Some(&b"lo\0"[..]));
    }

    #[test]
    fn malformed_lengths_end_the_list() {
        let mut datagram = vec![0; MESSAGE_HEADER];
        for (length, count) in [(15, 0), (17, 0), (16, 1), (0, 0)] {
            datagram[0] = length;
            assert_eq!(messages(&datagram).count(), count, "{length}");
        }
        let mut body = vec![0; FIXED_PART + ATTRIBUTE_HEADER];
        for (length, count) in [(0, 0), (3, 0), (5, 0), (4, 1)] {
            body[FIXED_PART] = length;
            assert_eq!(attributes(&body).count(), count, "{length}");
        }
        assert_eq!(attributes(&[]).count(), 0);
    }

    #[test]
    fn the_kernel_lists_its_local_table() {
        let mut netlink = Netlink::open().expect("a socket");
        assert!(netlink.has_rule(Family::V4, 255).expect("a list"));
        let local = netlink.prefixes(Family::V4, 255).expect("a list");
        let loopback = "127.0.0.1/32".parse().expect("a prefix");
        assert!(local.contains(&loopback), "{local:?}");
        assert_eq!(
            netlink.prefixes(Family::V4, 0xfeed_f00d).expect("a list"),
            []
        );
    }
}
