//! Capability fallback: after a rejected OPEN the next one omits the rejected capabilities
//! (RFC 5492 §3).

use bytes::Bytes;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{Event, Input, JournalEvent};
use ferrolb_bgp::wire::{Capability, ErrorCode, Family, Notification, subcode};

use crate::harness::{Router, router, seconds};

fn open_error(subcode: u8, data: &[u8]) -> Bytes {
    Notification::new(ErrorCode::OPEN, subcode)
        .with_data(data.to_vec())
        .encode()
}

#[test]
fn all_capabilities_are_omitted_until_a_session_was_stable_rfc5492_3() {
    let mut router = Router::new(router());
    router.input(Input::OpenGate);
    let everything = router.connect();
    router.receive(open_error(
        subcode::open::UNSUPPORTED_OPTIONAL_PARAMETER,
        &[],
    ));
    let reported = router.events.iter().any(|event| {
        matches!(event, Event::CapabilitiesDropped { peer, capabilities }
            if peer == "tor" && capabilities.len() == everything.capabilities.len())
    });
    assert!(reported, "{:?}", router.events);
    let detail = router.speaker.peer(router.now, "tor").unwrap();
    assert!(
        detail
            .journal
            .iter()
            .any(|entry| matches!(entry.event, JournalEvent::CapabilitiesDropped { .. }))
    );

    assert_eq!(router.reconnect().capabilities, []);
    router.establish();
    let families = router.status().negotiated.unwrap().families;
    assert_eq!(families, [Family::IPV4_UNICAST]);

    // The session was not stable, so the capabilities remain omitted.
    router.receive(Notification::cease(subcode::cease::ADMINISTRATIVE_RESET).encode());
    assert_eq!(router.reconnect().capabilities, []);
    router.establish();
    router.run(seconds(300));
    router.receive(Notification::cease(subcode::cease::ADMINISTRATIVE_RESET).encode());
    assert_eq!(router.reconnect(), everything);
}

#[test]
fn capabilities_that_the_router_lists_are_omitted_until_the_configuration_changes() {
    let mut router = Router::new(router());
    router.input(Input::OpenGate);
    let everything = router.connect();
    router.receive(open_error(
        subcode::open::UNSUPPORTED_CAPABILITY,
        &[1, 4, 0, 2, 0, 1],
    ));
    assert_eq!(
        router.cause().code(),
        "capability-refused",
        "{}",
        router.cause()
    );
    let next = router.reconnect();
    assert_eq!(next.families(), [Family::IPV4_UNICAST]);
    assert_eq!(next.capabilities.len() + 1, everything.capabilities.len());
    assert!(next.capabilities.contains(&Capability::ExtendedMessage));

    router.input(Input::SetPeer(PeerConfig {
        shutdown_text: Some("bye".to_owned()),
        ..crate::harness::router()
    }));
    router.close();
    assert_eq!(router.reconnect(), everything);
}
