//! What the kernel counts of segments it drops for their TCP MD5 signature.
//!
//! It drops them without a word to anybody: a dial with a wrong password just gets no answer. But
//! it counts them, for the whole host; what was counted while we dialled is a hint.

use std::collections::BTreeMap;

use crate::fsm::{ConnectionId, Input, Md5Drops};

/// Of the thread that asks: it may be in another network namespace than the process began in.
const COUNTERS: &str = "/proc/thread-self/net/netstat";

/// The dials that go on, with what had been counted when they began, and what was told since.
#[derive(Debug, Default)]
pub(super) struct Dials(BTreeMap<ConnectionId, (Md5Drops, Md5Drops)>);

impl Dials {
    /// A dial begins.
    pub(super) fn begin(&mut self, connection: ConnectionId) {
        if let Some(counted) = read() {
            self.0.insert(connection, (counted, Md5Drops::default()));
        }
    }

    /// A dial has ended, one way or the other.
    pub(super) fn end(&mut self, connection: ConnectionId) {
        self.0.remove(&connection);
    }

    /// What was counted since the dials began, where that is more than was told already.
    pub(super) fn news(&mut self) -> Vec<Input> {
        if self.0.is_empty() {
            return Vec::new();
        }
        read().map_or_else(Vec::new, |counted| self.since(counted))
    }

    fn since(&mut self, counted: Md5Drops) -> Vec<Input> {
        let mut news = Vec::new();
        for (&connection, (before, told)) in &mut self.0 {
            let drops = Md5Drops {
                missing: counted.missing.saturating_sub(before.missing),
                unexpected: counted.unexpected.saturating_sub(before.unexpected),
                wrong: counted.wrong.saturating_sub(before.wrong),
            };
            if drops != *told {
                *told = drops;
                news.push(Input::Md5Dropped { connection, drops });
            }
        }
        news
    }
}

/// `None` where the kernel has no such counters.
fn read() -> Option<Md5Drops> {
    parse(&std::fs::read_to_string(COUNTERS).ok()?)
}

/// Pairs of lines: names, then numbers, both after `TcpExt:`.
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
    fn the_counters_are_found_by_their_names() {
        let drops = Md5Drops {
            missing: 1,
            unexpected: 2,
            wrong: 3,
        };
        assert_eq!(parse(TEXT), Some(drops));
        assert_eq!(parse("IpExt: InNoRoutes\nIpExt: 7\n"), None);
        assert_eq!(parse("TcpExt: TCPMD5NotFound\n"), None);
        assert!(read().is_some(), "this kernel has them");
    }

    #[test]
    fn each_dial_is_told_what_came_since_it_began_and_once() {
        let counted = |wrong| Md5Drops {
            wrong,
            ..Md5Drops::default()
        };
        let id = ConnectionId::Dialled;
        let none = Md5Drops::default();
        let mut dials = Dials([(id(1), (counted(5), none)), (id(2), (counted(7), none))].into());
        let told = |news: Vec<Input>| -> Vec<(ConnectionId, u64)> {
            let told = news.into_iter().map(|input| match input {
                Input::Md5Dropped { connection, drops } => (connection, drops.wrong),
                other => panic!("{other:?}"),
            });
            told.collect()
        };
        assert_eq!(told(dials.since(counted(7))), [(id(1), 2)]);
        assert_eq!(told(dials.since(counted(7))), []);
        dials.end(id(1));
        assert_eq!(told(dials.since(counted(8))), [(id(2), 1)]);
    }
}
