//! Received routes: the prefix limit, and routes that would loop.

use bytes::Bytes;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{Event, Input, State};
use ferrolb_bgp::wire::{Message, MessageType, Notification};

use crate::harness::{Router, router, seconds};

const NEXT_HOP: [u8; 4] = [10, 0, 0, 2];

/// An UPDATE that withdraws and announces prefixes 198.51.100.n/32 with this next hop and AS_PATH.
fn update(withdrawn: &[u8], announced: &[u8], next_hop: [u8; 4], path: &[u32]) -> Bytes {
    let prefixes =
        |last: &[u8]| -> Vec<u8> { last.iter().flat_map(|n| [32, 198, 51, 100, *n]).collect() };
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2];
    let count = u8::try_from(path.len()).unwrap();
    attributes.extend([count * 4 + 2, 2, count]);
    attributes.extend(path.iter().flat_map(|asn| asn.to_be_bytes()));
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop);
    if announced.is_empty() {
        attributes.clear();
    }
    let length = |octets: &[u8]| u16::try_from(octets.len()).unwrap().to_be_bytes();
    let withdrawn = prefixes(withdrawn);
    let mut body = length(&withdrawn).to_vec();
    body.extend(&withdrawn);
    body.extend(length(&attributes));
    body.extend(&attributes);
    body.extend(prefixes(announced));
    let whole = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [&[0xff; 16], &whole[..], &[MessageType::UPDATE.0], &body]
        .concat()
        .into()
}

#[test]
fn exceeding_the_prefix_limit_ends_the_session_with_the_limit_rfc4486_4() {
    let limited = PeerConfig {
        prefix_limit: Some(3),
        receive: true,
        ..router()
    };
    let mut router = Router::new(limited);
    router.input(Input::OpenGate);
    router.connect();
    router.establish();
    router.sent();
    let count = |router: &Router| {
        router
            .status()
            .prefix_limit
            .map(|limit| (limit.received, limit.limit))
    };
    router.receive(update(&[], &[1, 2, 3], NEXT_HOP, &[65002]));
    assert_eq!(count(&router), Some((3, 3)));
    // Repeated announcements do not count. A withdrawal in the same UPDATE makes room.
    router.receive(update(&[], &[1, 2, 3], NEXT_HOP, &[65002]));
    router.receive(update(&[1], &[4], NEXT_HOP, &[65002]));
    assert_eq!(count(&router), Some((3, 3)));
    router.receive(update(&[4, 9], &[], NEXT_HOP, &[]));
    assert_eq!(count(&router), Some((2, 3)));
    assert_eq!(router.state(), State::Established);

    router.receive(update(&[], &[5, 6, 7], NEXT_HOP, &[65002]));
    assert_eq!(router.cause().code(), "prefix-limit", "{}", router.cause());
    let text = router.cause().to_string();
    assert!(text.contains("limit of 3 ipv4-unicast prefixes"), "{text}");
    assert_eq!(
        router.sent(),
        [Message::Notification(
            Notification::cease(1).with_data(vec![0, 1, 1, 0, 0, 0, 3])
        )]
    );
    let received = router
        .events
        .iter()
        .filter(|event| matches!(event, Event::Received { .. }));
    assert_eq!(
        received.count(),
        4,
        "the UPDATE over the limit is not reported"
    );
    let status = router.status();
    assert_eq!(status.state, State::Idle);
    assert!(status.retry_in >= Some(seconds(45)));
    assert_eq!(count(&router), Some((0, 3)));

    router.reconnect();
    router.establish();
    router.receive(update(&[], &[1], NEXT_HOP, &[65002]));
    assert_eq!(count(&router), Some((1, 3)));
}

#[test]
fn routes_with_our_as_or_our_next_hop_are_counted_as_looped_without_error() {
    let mut router = Router::new(router());
    router.input(Input::OpenGate);
    router.connect();
    router.establish();
    router.sent();
    router.receive(update(&[], &[1, 2], NEXT_HOP, &[65002, 65001]));
    assert_eq!(router.status().update_errors.looped, 2);
    router.receive(update(&[], &[3], [10, 0, 0, 1], &[65002]));
    assert_eq!(router.status().update_errors.looped, 3);
    router.receive(update(&[], &[4], NEXT_HOP, &[65002, 65003]));
    let errors = router.status().update_errors;
    assert_eq!(
        (
            errors.looped,
            errors.treated_as_withdraw,
            errors.attributes_discarded
        ),
        (3, 0, 0)
    );
    assert_eq!(router.state(), State::Established);
    assert_eq!(router.status().prefix_limit, None);
}
