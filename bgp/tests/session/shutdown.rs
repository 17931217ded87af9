//! The end of a speaker, whatever is asked of it and whoever calls meanwhile.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{ConnectionId, Input, Output, ShutdownMode, Speaker, SpeakerConfig};
use ferrolb_bgp::wire::Asn;

fn shutdown() -> Input {
    Input::Shutdown {
        text: String::new(),
        mode: ShutdownMode::Withdraw,
    }
}

fn speaker() -> Speaker {
    Speaker::new(SpeakerConfig {
        router_id_fallback: Ipv4Addr::new(10, 255, 0, 9),
        seed: 1,
        host_uptime: None,
    })
}

fn peer(name: &str, remote: &str) -> Input {
    let remote = remote.parse().unwrap();
    Input::SetPeer(PeerConfig::new(name, remote, Asn(65001), Asn(65002)))
}

fn outputs(speaker: &mut Speaker) -> Vec<Output> {
    std::iter::from_fn(|| speaker.poll_output()).collect()
}

fn stopped(outputs: &[Output]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, Output::Stopped))
}

/// The other one is free to run now, but nobody begins anything any more.
#[test]
fn a_peer_that_is_removed_while_the_speaker_stops_makes_no_room_for_another() {
    let now = Instant::now();
    let mut speaker = speaker();
    speaker.handle(now, peer("a", "10.2.0.1:179"));
    speaker.handle(now, peer("b", "10.2.0.1:179"));
    speaker.handle(now, shutdown());
    drop(outputs(&mut speaker));
    speaker.handle(now, Input::RemovePeer("a".to_owned()));
    assert_eq!(speaker.status(now).len(), 1);
    let outputs = outputs(&mut speaker);
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Connect { .. } | Output::Listen { .. })),
        "{outputs:?}"
    );
}

/// Somebody at a peer's address who dials again and again holds up nothing.
#[test]
fn connections_that_come_during_the_farewell_do_not_prolong_it() {
    let start = Instant::now();
    let mut now = start;
    let mut speaker = speaker();
    speaker.handle(now, peer("a", "10.2.0.1:179"));
    let remote = "10.2.0.1:50000".parse().unwrap();
    let local = "10.1.0.1:179".parse().unwrap();
    let mut accepted = 0;
    let mut call = |speaker: &mut Speaker, now| {
        let connection = ConnectionId::Accepted(accepted);
        accepted += 1;
        let input = Input::Accepted {
            connection,
            local,
            remote,
        };
        speaker.handle(now, input);
        connection
    };
    // A session that is still being made has its last words to say, and nobody reads them.
    call(&mut speaker, now);
    drop(outputs(&mut speaker));
    speaker.handle(now, shutdown());
    let mut over = stopped(&outputs(&mut speaker));
    while !over {
        let connection = call(&mut speaker, now);
        let outcome = outputs(&mut speaker);
        let closed =
            |output: &Output| matches!(output, Output::Close { connection: c } if *c == connection);
        assert!(outcome.iter().any(closed), "{outcome:?}");
        assert!(now <= start + Duration::from_secs(5), "{:?}", now - start);
        now += Duration::from_millis(100);
        if speaker.poll_timeout().is_some_and(|at| at <= now) {
            speaker.handle(now, Input::Timeout);
            assert!(speaker.poll_timeout().is_none_or(|at| at > now));
        }
        over = stopped(&outcome) || stopped(&outputs(&mut speaker));
    }
    assert_eq!(speaker.poll_timeout(), None);
}
