use std::time::Duration;

use ferrolb_bgp::fsm::State;

use super::*;

fn line(peer: &str, number: u64, times: u64) -> LogLine {
    LogLine {
        at: jiff::Timestamp::UNIX_EPOCH,
        peer: peer.into(),
        entry: JournalEntry {
            number,
            age: Duration::from_secs(1),
            first_age: Duration::from_secs(61),
            times,
            event: JournalEvent::State {
                from: State::Connect,
                to: State::OpenSent,
            },
        },
    }
}

#[test]
fn printed_entries_are_printed_again_only_if_they_recur() {
    let mut printed = Printed::default();
    let first = [line("a", 1, 1), line("b", 1, 1), line("a", 2, 1)];
    assert_eq!(printed.new_lines(&first).len(), 3);
    assert_eq!(printed.new_lines(&first).len(), 0);
    let then = [line("a", 2, 2), line("b", 1, 1), line("b", 2, 1)];
    let new_lines: Vec<&str> = printed
        .new_lines(&then)
        .iter()
        .map(|line| line.peer.as_str())
        .collect();
    assert_eq!(new_lines, ["a", "b"]);
}

#[test]
fn entries_are_printed_as_text() {
    assert_eq!(entry_text(&line("a", 1, 1).entry), "Connect → OpenSent");
    assert_eq!(
        entry_text(&line("a", 1, 3).entry),
        "Connect → OpenSent (3 times in 1m)"
    );
    let cause = CauseSummary {
        code: "notification-received".into(),
        text: "received Cease".into(),
        notification: Some(NotificationSummary {
            sent: false,
            code: 6,
            subcode: 2,
            name: "Cease".into(),
            text: None,
            data_in_words: None,
            data: "0568656c6c6f".into(),
        }),
    };
    let ended = JournalEvent::Ended {
        cause,
        was_established: true,
        retry: Some(Duration::from_secs(4)),
    };
    assert_eq!(
        event(&ended),
        "session ended: received Cease [data 0568656c6c6f]; retry in 4s"
    );
}
