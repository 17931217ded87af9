use super::*;
use crate::wire::{ExtendedNextHop, GracefulRestartCapability};

const BOTH: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

fn ours() -> Open {
    Open::new(Asn(64512), 90, [10, 0, 0, 1].into(), &BOTH)
}

fn theirs() -> Open {
    Open::new(Asn(65001), 90, [10, 0, 0, 2].into(), &BOTH)
}

fn negotiate(theirs: &Open, ours: &Open) -> Agreement {
    Agreement::negotiate(ours, theirs, None).unwrap()
}

#[test]
fn a_peer_without_capabilities_gets_ipv4_and_two_octet_as_numbers_rfc4760_8() {
    let open = Open {
        capabilities: vec![],
        ..theirs()
    };
    let agreed = Agreement::negotiate(&ours(), &open, Some(Asn(65001))).unwrap();
    assert_eq!(agreed.families, [Family::IPV4_UNICAST]);
    assert!(!agreed.four_octet_asn);
    assert!(!agreed.encode_context().four_octet_asn);
    assert!(!agreed.decode_context().four_octet_asn);
}

/// Code, subcode and data of the NOTIFICATION that rejects `open`.
fn rejection(open: &Open, expected: Option<Asn>, ours: &Open) -> (u8, u8, Vec<u8>) {
    let error = Agreement::negotiate(ours, open, expected).unwrap_err();
    let notification = error.notification();
    (
        notification.code.0,
        notification.subcode,
        notification.data.to_vec(),
    )
}

#[test]
fn each_rule_rejects_with_its_own_subcode_rfc4271_6_2() {
    let good = theirs();
    let peer = Some(Asn(65001));
    assert!(Agreement::negotiate(&ours(), &good, peer).is_ok());
    let bad = |change: fn(&mut Open)| {
        let mut open = good.clone();
        change(&mut open);
        rejection(&open, peer, &ours())
    };
    assert_eq!(bad(|open| open.version = 3), (2, 1, vec![0, 4]));
    assert_eq!(rejection(&good, Some(Asn(65002)), &ours()), (2, 2, vec![]));
    assert_eq!(bad(|open| open.asn = 0), (2, 2, vec![]));
    assert_eq!(
        bad(|open| open.capabilities.push(Capability::FourOctetAsn(Asn(1)))),
        (2, 2, vec![])
    );
    assert_eq!(bad(|open| open.router_id = [0; 4].into()), (2, 3, vec![]));
    assert_eq!(bad(|open| open.hold_time = 1), (2, 6, vec![]));
    assert_eq!(bad(|open| open.hold_time = 2), (2, 6, vec![]));
}

#[test]
fn as_zero_is_rejected_even_if_any_as_is_accepted_rfc7607_2() {
    for open in [
        Open::new(Asn(0), 90, [10, 0, 0, 2].into(), &BOTH),
        Open { asn: 0, ..theirs() },
        Open {
            asn: 65001,
            ..Open::new(Asn(0), 90, [10, 0, 0, 2].into(), &BOTH)
        },
    ] {
        assert_eq!(rejection(&open, None, &ours()), (2, 2, vec![]), "{open:?}");
    }
}

#[test]
fn equal_router_ids_are_rejected_only_within_one_as_rfc6286_2_2() {
    let external = Open::new(Asn(65001), 90, [10, 0, 0, 1].into(), &BOTH);
    assert!(!negotiate(&external, &ours()).ibgp);
    let internal = Open::new(Asn(64512), 90, [10, 0, 0, 1].into(), &BOTH);
    assert_eq!(rejection(&internal, None, &ours()), (2, 3, vec![]));
    let internal = Open::new(Asn(64512), 90, [224, 0, 0, 1].into(), &BOTH);
    assert!(negotiate(&internal, &ours()).ibgp);
}

#[test]
fn no_common_family_is_rejected_with_the_list_of_ours_rfc5492_5() {
    let v6 = Open::new(
        Asn(65001),
        90,
        [10, 0, 0, 2].into(),
        &[Family::IPV6_UNICAST],
    );
    let v4 = Open::new(
        Asn(64512),
        90,
        [10, 0, 0, 1].into(),
        &[Family::IPV4_UNICAST],
    );
    let error = Agreement::negotiate(&v4, &v6, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer supports none of our families: ipv4-unicast"
    );
    assert_eq!(rejection(&v6, None, &v4), (2, 7, vec![1, 4, 0, 1, 0, 1]));
    assert_eq!(negotiate(&v6, &ours()).families, [Family::IPV6_UNICAST]);
}

#[test]
fn the_smaller_hold_time_is_used_rfc4271_4_2() {
    for (theirs, ours, agreed) in [
        (30, 90, 30),
        (90, 30, 30),
        (0, 90, 0),
        (90, 0, 0),
        (3, 3, 3),
    ] {
        let theirs = Open::new(Asn(65001), theirs, [10, 0, 0, 2].into(), &BOTH);
        let ours = Open::new(Asn(64512), ours, [10, 0, 0, 1].into(), &BOTH);
        assert_eq!(negotiate(&theirs, &ours).hold_time.as_secs(), agreed);
    }
}

#[test]
fn four_octet_as_numbers_need_the_capability_of_both_sides_rfc6793_4_1() {
    let mut two_octets = ours();
    two_octets
        .capabilities
        .retain(|capability| !matches!(capability, Capability::FourOctetAsn(_)));
    assert!(negotiate(&theirs(), &ours()).four_octet_asn);
    assert!(!negotiate(&theirs(), &two_octets).four_octet_asn);
}

fn restart(notification: bool) -> Capability {
    Capability::GracefulRestart(GracefulRestartCapability {
        notification,
        restart_time: 120,
        families: vec![(Family::IPV4_UNICAST, true)],
        ..GracefulRestartCapability::default()
    })
}

/// RFC 8654 §4, RFC 7313 §4, RFC 8950 §4, RFC 4724 §4.
#[test]
fn an_optional_capability_is_used_only_if_both_sides_offer_it() {
    let plain = |ours: Open| ours;
    let full = |open: Open| {
        open.with(Capability::ExtendedMessage)
            .with(Capability::EnhancedRouteRefresh)
            .with(Capability::ExtendedNextHop(vec![
                ExtendedNextHop::IPV4_OVER_IPV6,
            ]))
            .with(restart(true))
    };
    for (theirs, ours) in [
        (full(theirs()), plain(ours())),
        (plain(theirs()), full(ours())),
        (plain(theirs()), plain(ours())),
    ] {
        let offered = ours.capabilities.contains(&Capability::ExtendedMessage);
        let agreed = negotiate(&theirs, &ours);
        assert!(!agreed.extended_message && !agreed.enhanced_route_refresh);
        assert!(!agreed.ipv4_next_hop_v6);
        assert_eq!(agreed.graceful_restart, None);
        assert_eq!(agreed.encode_context().max_length, MAX_LENGTH);
        // RFC 8654 §6: a speaker that offers extended messages must accept them.
        let read = if offered { 65_535 } else { MAX_LENGTH };
        assert_eq!(agreed.decode_context().max_length, read);
    }
    let agreed = negotiate(&full(theirs()).with(restart(false)), &full(ours()));
    assert!(agreed.extended_message && agreed.enhanced_route_refresh);
    assert!(agreed.ipv4_next_hop_v6);
    // RFC 4724 §3: the last of several capabilities counts, here one without the N bit.
    let last = RestartAgreement {
        restart_time: 120,
        notification: false,
    };
    assert_eq!(agreed.graceful_restart, Some(last));
    assert_eq!(agreed.encode_context().max_length, 65_535);
    let context = agreed.decode_context();
    assert_eq!(context.max_length, 65_535);
    assert!(context.ipv4_next_hop_v6 && context.enhanced_route_refresh);
}

#[test]
fn graceful_restart_uses_our_restart_time_and_the_n_bit_of_both_rfc8538_2() {
    for (ours_, theirs_, both) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let ours = ours().with(Capability::GracefulRestart(GracefulRestartCapability {
            restart_time: 20,
            notification: ours_,
            ..GracefulRestartCapability::default()
        }));
        let agreed = negotiate(&theirs().with(restart(theirs_)), &ours);
        let expected = RestartAgreement {
            restart_time: 20,
            notification: both,
        };
        assert_eq!(agreed.graceful_restart, Some(expected));
    }
}

#[test]
fn the_keepalive_interval_is_at_most_a_third_of_the_hold_time_rfc4271_4_4() {
    let seconds = Duration::from_secs;
    for (hold_time, wish, interval) in [
        (90, None, Some(seconds(30))),
        (90, Some(seconds(2)), Some(seconds(2))),
        (90, Some(seconds(60)), Some(seconds(30))),
        (90, Some(Duration::ZERO), Some(seconds(1))),
        (3, None, Some(seconds(1))),
        (0, Some(seconds(2)), None),
    ] {
        let theirs = Open {
            hold_time,
            ..theirs()
        };
        let mut agreed = negotiate(&theirs, &ours());
        if let Some(wish) = wish {
            agreed.shorten_keepalive_time(wish);
        }
        assert_eq!(agreed.keepalive_time, interval, "{hold_time} {wish:?}");
    }
}
