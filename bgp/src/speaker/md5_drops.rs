//! Reads the kernel's counters of segments dropped for their TCP MD5 signature (RFC 2385).
//!
//! The kernel drops such segments silently, so a dial with a wrong password only times out. The
//! counters cover the whole network namespace: an increase during a dial is a hint, not proof.

use std::collections::BTreeMap;

use crate::fsm::{ConnectionId, Input, Md5Drops};

/// Counters of the calling thread, which may be in another network namespace than the process.
const COUNTERS: &str = "/proc/thread-self/net/netstat";

/// Dials in progress: the counters at their start and the increase reported since.
#[derive(Debug, Default)]
pub(super) struct Dials(BTreeMap<ConnectionId, (Md5Drops, Md5Drops)>);

impl Dials {
    /// Starts a dial.
    pub(super) fn begin(&mut self, connection: ConnectionId) {
        if let Some(counted) = read() {
            self.0.insert(connection, (counted, Md5Drops::default()));
        }
    }

    /// Ends a dial.
    pub(super) fn end(&mut self, connection: ConnectionId) {
        self.0.remove(&connection);
    }

    /// The dials with drops that were not yet reported, with all drops since their start.
    pub(super) fn new_drops(&mut self) -> Vec<Input> {
        if self.0.is_empty() {
            return Vec::new();
        }
        read().map_or_else(Vec::new, |counted| self.since(counted))
    }

    fn since(&mut self, counted: Md5Drops) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (&connection, (before, reported)) in &mut self.0 {
            let drops = Md5Drops {
                missing: counted.missing.saturating_sub(before.missing),
                unexpected: counted.unexpected.saturating_sub(before.unexpected),
                wrong: counted.wrong.saturating_sub(before.wrong),
            };
            if drops != *reported {
                *reported = drops;
                inputs.push(Input::Md5Dropped { connection, drops });
            }
        }
        inputs
    }
}

/// `None` if the kernel has no such counters.
fn read() -> Option<Md5Drops> {
    parse(&std::fs::read_to_string(COUNTERS).ok()?)
}

/// Parses a line of names and a line of numbers, both after `TcpExt:`.
fn parse(text: &str) -> Option<Md5Drops> {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let count = |wanted: &str| {
        let mut both = names.split_whitespace().zip(numbers.split_whitespace());
        both.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(Md5Drops {
        missing: count("TCPMD5NotFound")?,
        unexpected: count("TCPMD5Unexpected")?,
        wrong: count("TCPMD5Failure")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted
TcpExt: 9 1 2 3 8
IpExt: InNoRoutes InTruncatedPkts
IpExt: 7 0
";

    #[test]
    fn the_counters_are_looked_up_by_name() {
        let drops = Md5Drops {
            missing: 1,
            unexpected: 2,
            wrong: 3,
        };
        assert_eq!(parse(TEXT), Some(drops));
        assert_eq!(parse("IpExt: InNoRoutes\nIpExt: 7\n"), None);
        assert_eq!(parse("TcpExt: TCPMD5NotFound\n"), None);
        assert!(read().is_some(), "counters of this kernel");
    }

    #[test]
    fn drops_since_the_start_of_a_dial_are_reported_once() {
        let counted = |wrong| Md5Drops {
            wrong,
            ..Md5Drops::default()
        };
        let id = ConnectionId::Dialled;
        let none = Md5Drops::default();
        let mut dials = Dials([(id(1), (counted(5), none)), (id(2), (counted(7), none))].into());
        let wrong = |inputs: Vec<Input>| -> Vec<(ConnectionId, u64)> {
            let wrong = inputs.into_iter().map(|input| match input {
                Input::Md5Dropped { connection, drops } => (connection, drops.wrong),
                other => panic!("{other:?}"),
            });
            wrong.collect()
        };
        assert_eq!(wrong(dials.since(counted(7))), [(id(1), 2)]);
        assert_eq!(wrong(dials.since(counted(7))), []);
        dials.end(id(1));
        assert_eq!(wrong(dials.since(counted(8))), [(id(2), 1)]);
    }
}
