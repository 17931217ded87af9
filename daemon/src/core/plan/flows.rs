//! The share of flows that reach another next hop when the next hops of an ECMP group change.

use std::collections::BTreeSet;

/// The share of flows that move, in percent, rounded up: at least, and with hash thresholds of
/// equal size in the order of the names (RFC 2992 §2). Without a next hop left all of them are
/// lost.
pub(super) fn moved_share(before: &BTreeSet<&str>, after: &BTreeSet<&str>) -> (u8, u8) {
    let (n, m) = (before.len(), after.len());
    if n == 0 {
        return (0, 0);
    }
    let gone = before.difference(after).count();
    // In units of 1 / (n * m): next hop i has the flows from i * m to (i + 1) * m before.
    let stays: usize = before
        .iter()
        .enumerate()
        .filter_map(|(i, node)| {
            let j = after.iter().position(|other| other == node)?;
            let (first, last) = ((i * m).max(j * n), ((i + 1) * m).min((j + 1) * n));
            Some(last.saturating_sub(first))
        })
        .sum();
    let all = n * m;
    let moved_by_rehash = if m == 0 {
        100
    } else {
        percent(all - stays, all)
    };
    (percent(gone, n), moved_by_rehash)
}

fn percent(part: usize, all: usize) -> u8 {
    u8::try_from((part * 100).div_ceil(all)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(before: &[&str], after: &[&str]) -> (u8, u8) {
        let set = |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
        let (before, after) = (set(before), set(after));
        moved_share(
            &before.iter().map(String::as_str).collect(),
            &after.iter().map(String::as_str).collect(),
        )
    }

    #[test]
    fn the_share_of_moved_flows_follows_rfc_2992() {
        assert_eq!(share(&["a", "b"], &["a", "b"]), (0, 0));
        // RFC 2992 §3: the disruption is 1/2 if the last one of many goes, and 1/4 if the one in
        // the middle goes, each a bit more for few next hops.
        assert_eq!(share(&["a", "b", "c", "d"], &["a", "b", "c"]), (25, 50));
        assert_eq!(
            share(&["a", "b", "c", "d", "e"], &["a", "b", "d", "e"]),
            (20, 30)
        );
        assert_eq!(share(&["a", "b"], &["a", "b", "c"]), (0, 50));
        assert_eq!(share(&["a"], &[]), (100, 100));
        assert_eq!(share(&["a", "b"], &["c"]), (100, 100));
    }
}
