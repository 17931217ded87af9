use super::*;
use crate::wire::Message;

fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn message(hex: &str) -> Vec<u8> {
    [vec![0xff; 16], octets(hex)].concat()
}

fn decode(hex: &str) -> Result<Open, DecodeError> {
    match Message::decode(&message(hex), &DecodeContext::default()) {
        Some(Ok(Message::Open(open))) => Ok(open),
        Some(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

const BOTH: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

fn ours() -> Open {
    Open::new(Asn(64512), 90, [10, 0, 0, 1].into(), &BOTH)
}

/// MetalLB's OPENs, which lack only the route refresh capability of ours.
#[test]
fn encodes_what_metallb_sends() {
    let mut open = ours();
    open.capabilities
        .retain(|capability| *capability != Capability::RouteRefresh);
    let expected = "0031 01 04 fc00 005a 0a000001 14 0212 010400010001 010400020001 41040000fc00";
    assert_eq!(open.encode(), message(expected));
    assert_eq!(decode(expected), Ok(open));

    let mut open = Open::new(Asn(4_200_000_000), 0, [10, 0, 0, 1].into(), &BOTH);
    open.capabilities
        .retain(|capability| *capability != Capability::RouteRefresh);
    let expected = "0031 01 04 5ba0 0000 0a000001 14 0212 010400010001 010400020001 4104fa56ea00";
    assert_eq!(open.encode(), message(expected));
    assert_eq!(decode(expected), Ok(open));
}

#[test]
fn offers_families_route_refresh_and_four_octet_asn() {
    let expected =
        "0033 01 04 fc00 005a 0a000001 16 0214 010400010001 010400020001 0200 41040000fc00";
    assert_eq!(ours().encode(), message(expected));
}

/// The OPENs that MetalLB's own tests accept.
#[test]
fn accepts_the_opens_metallb_accepts() {
    let first = decode(
        "0041 01 04 0001 00b4 0a010101 24 0222 010400010001 010400010004 0200 4002012c \
         410400000001 45080001010100010401",
    )
    .unwrap();
    let agreed = first.validate(Some(Asn(1)), &ours()).unwrap();
    assert_eq!(agreed.families, [Family::IPV4_UNICAST]);
    assert_eq!(
        (agreed.hold_time, agreed.route_refresh, agreed.ibgp),
        (90, true, false)
    );

    let second = decode("0025 01 04 fc1f 0028 c0a81241 08 0206 41040000fc1f").unwrap();
    let agreed = second.validate(Some(Asn(64543)), &ours()).unwrap();
    assert_eq!(agreed.families, [Family::IPV4_UNICAST]);
    assert_eq!((agreed.hold_time, agreed.route_refresh), (40, false));
    assert!(agreed.four_octet_asn);

    let third =
        "0033 01 04 fc1f 0028 c0a81045 16 0214 010400010001 0200 40020000 41040000fc1f 4600";
    assert!(decode(third).unwrap().validate(None, &ours()).is_ok());

    let fourth = decode(
        "0035 01 04 fc1f 00b4 c0a81001 18 0206 010400010001 0202 8000 0202 0200 0206 41040000fc1f",
    )
    .unwrap();
    assert_eq!(fourth.capabilities.len(), 4);
    assert_eq!(fourth.sender_asn(), Asn(64543));
    assert_eq!(
        fourth.encode()[28..30],
        [18, 2],
        "ours go into one parameter"
    );
}

#[test]
fn a_peer_without_capabilities_has_ipv4_and_two_octets() {
    let open = decode("001d 01 04 fde9 005a 0aff0001 00").unwrap();
    let agreed = open.validate(Some(Asn(65001)), &ours()).unwrap();
    assert_eq!(agreed.families, [Family::IPV4_UNICAST]);
    assert!(!agreed.four_octet_asn);
    assert!(!agreed.encode_context().four_octet_asn);
    assert!(!agreed.decode_context().four_octet_asn);
}

fn refusal(open: &Open, expected: Option<Asn>, ours: &Open) -> (u8, u8, Vec<u8>) {
    let notification = open.validate(expected, ours).unwrap_err().notification();
    (
        notification.code.0,
        notification.subcode,
        notification.data.to_vec(),
    )
}

#[test]
fn refuses_with_the_notification_of_each_rule() {
    let good = Open::new(Asn(65001), 90, [10, 0, 0, 2].into(), &BOTH);
    let peer = Some(Asn(65001));
    assert!(good.validate(peer, &ours()).is_ok());
    let bad = |change: fn(&mut Open)| {
        let mut open = good.clone();
        change(&mut open);
        refusal(&open, peer, &ours())
    };
    assert_eq!(bad(|open| open.version = 3), (2, 1, vec![0, 4]));
    assert_eq!(refusal(&good, Some(Asn(65002)), &ours()), (2, 2, vec![]));
    assert_eq!(bad(|open| open.asn = 0), (2, 2, vec![]));
    assert_eq!(
        bad(|open| open.capabilities.push(Capability::FourOctetAsn(Asn(1)))),
        (2, 2, vec![])
    );
    assert_eq!(bad(|open| open.router_id = [0; 4].into()), (2, 3, vec![]));
    assert_eq!(bad(|open| open.hold_time = 1), (2, 6, vec![]));
    assert_eq!(bad(|open| open.hold_time = 2), (2, 6, vec![]));
}

/// RFC 7607 §2, without an expected AS too.
#[test]
fn as_zero_is_refused_from_anybody() {
    for open in [
        Open::new(Asn(0), 90, [10, 0, 0, 2].into(), &BOTH),
        Open {
            asn: 0,
            ..Open::new(Asn(65001), 90, [10, 0, 0, 2].into(), &BOTH)
        },
        Open {
            asn: 65001,
            ..Open::new(Asn(0), 90, [10, 0, 0, 2].into(), &BOTH)
        },
    ] {
        assert_eq!(refusal(&open, None, &ours()), (2, 2, vec![]), "{open:?}");
    }
}

/// RFC 6286 §2.2, §2.3: equal router ids are an error only inside one AS.
#[test]
fn equal_router_ids() {
    let external = Open::new(Asn(65001), 90, [10, 0, 0, 1].into(), &BOTH);
    assert!(external.validate(None, &ours()).is_ok());
    let internal = Open::new(Asn(64512), 90, [10, 0, 0, 1].into(), &BOTH);
    assert_eq!(refusal(&internal, None, &ours()), (2, 3, vec![]));
    let internal = Open::new(Asn(64512), 90, [224, 0, 0, 1].into(), &BOTH);
    assert!(
        internal
            .validate(None, &ours())
            .is_ok_and(|agreed| agreed.ibgp)
    );
}

/// RFC 5492 §5: the data lists what is missing.
#[test]
fn no_family_in_common() {
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
    let error = v6.validate(None, &v4).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer lacks capabilities that we need: ipv4-unicast"
    );
    assert_eq!(refusal(&v6, None, &v4), (2, 7, octets("010400010001")));
    assert_eq!(
        v6.validate(None, &ours()).unwrap().families,
        [Family::IPV6_UNICAST]
    );
}

#[test]
fn hold_time_is_the_smaller_one() {
    for (theirs, ours, agreed) in [
        (30, 90, 30),
        (90, 30, 30),
        (0, 90, 0),
        (90, 0, 0),
        (3, 3, 3),
    ] {
        let theirs = Open::new(Asn(65001), theirs, [10, 0, 0, 2].into(), &BOTH);
        let ours = Open::new(Asn(64512), ours, [10, 0, 0, 1].into(), &BOTH);
        assert_eq!(theirs.validate(None, &ours).unwrap().hold_time, agreed);
    }
}

/// RFC 9072 §2: written when needed, read in any case.
#[test]
fn extended_optional_parameters() {
    let mut open = ours();
    for code in 100..104 {
        let value = Bytes::from(vec![code; 100]);
        open.capabilities.push(Capability::Unknown {
            code: CapabilityCode(code),
            value,
        });
    }
    let encoded = open.encode();
    assert_eq!(encoded[28..30], [255, 255]);
    let decoded = Message::decode(&encoded, &DecodeContext::default());
    assert_eq!(decoded, Some(Ok(Message::Open(open))));
    let small = decode("0029 01 04 fde9 005a 0aff0001 ff ff 0009 02 0006 41040000fde9").unwrap();
    assert_eq!(small.four_octet_asn(), Some(Asn(65001)));
    // FRR #22355: length 255 without the marker is the plain form.
    let plain = message(&format!(
        "011c 01 04 fde9 005a 0aff0001 ff 02fd c8fb {}",
        "00".repeat(251)
    ));
    let decoded = Message::decode(&plain, &DecodeContext::default());
    assert!(matches!(decoded, Some(Ok(Message::Open(open))) if open.capabilities.len() == 1));
}

#[test]
fn between_255_and_253_octets_of_capabilities() {
    for length in 240..=255 {
        let mut open = ours();
        let value = Bytes::from(vec![1; length - 22]);
        open.capabilities.push(Capability::Unknown {
            code: CapabilityCode(200),
            value,
        });
        let decoded = Message::decode(&open.encode(), &DecodeContext::default());
        assert_eq!(decoded, Some(Ok(Message::Open(open))), "{length}");
    }
}

#[test]
fn capabilities_that_do_not_fit_are_left_out() {
    let mut open = ours();
    for _ in 0..40 {
        let value = Bytes::from(vec![1; 250]);
        open.capabilities.push(Capability::Unknown {
            code: CapabilityCode(200),
            value,
        });
    }
    let encoded = open.encode();
    assert!(encoded.len() <= MAX_LENGTH);
    let decoded = Message::decode(&encoded, &DecodeContext::default());
    assert!(matches!(decoded, Some(Ok(Message::Open(open))) if open.capabilities.len() == 20));
}

#[test]
fn families_are_offered_once() {
    let open = Open::new(Asn(1), 90, [1, 1, 1, 1].into(), &[BOTH, BOTH].concat());
    assert_eq!(open.families(), BOTH);
}

#[test]
fn four_octets_only_where_both_sides_say_so() {
    let mut two_octets = ours();
    two_octets
        .capabilities
        .retain(|capability| !matches!(capability, Capability::FourOctetAsn(_)));
    let theirs = Open::new(Asn(65001), 90, [10, 0, 0, 2].into(), &BOTH);
    assert!(theirs.validate(None, &ours()).unwrap().four_octet_asn);
    assert!(!theirs.validate(None, &two_octets).unwrap().four_octet_asn);
}

/// RFC 4271 §6.2: lengths that don't add up, capabilities of ours with another length than theirs.
#[test]
fn malformed_optional_parameters() {
    for message in [
        "001e 01 04 fde9 005a 0aff0001 00 00",
        "0020 01 04 fde9 005a 0aff0001 00 ff 0000",
        "001f 01 04 fde9 005a 0aff0001 01 02 00",
        "0022 01 04 fde9 005a 0aff0001 05 02 03 0201 00",
        "0021 01 04 fde9 005a 0aff0001 04 02 02 0100",
    ] {
        assert_eq!(
            decode(message),
            Err(DecodeError::MalformedOpen),
            "{message}"
        );
    }
}

fn restart(notification: bool) -> Capability {
    Capability::GracefulRestart(GracefulRestartCapability {
        notification,
        restart_time: 120,
        families: vec![(Family::IPV4_UNICAST, true)],
        ..GracefulRestartCapability::default()
    })
}

/// What only one side offers is not used (RFC 8654 §4, RFC 7313 §4, RFC 8950 §4, RFC 4724 §4).
#[test]
fn optional_capabilities_are_agreed_on_by_both_sides() {
    let plain = |ours: Open| ours;
    let full = |open: Open| {
        open.with(Capability::ExtendedMessage)
            .with(Capability::EnhancedRouteRefresh)
            .with(Capability::ExtendedNextHop(vec![
                ExtendedNextHop::IPV4_OVER_IPV6,
            ]))
            .with(restart(true))
    };
    let theirs = || Open::new(Asn(65001), 90, [10, 0, 0, 2].into(), &BOTH);
    let agree = |theirs: Open, ours: Open| theirs.validate(None, &ours).unwrap();
    for (theirs, ours) in [
        (full(theirs()), plain(ours())),
        (plain(theirs()), full(ours())),
        (plain(theirs()), plain(ours())),
    ] {
        let offered = ours.capabilities.contains(&Capability::ExtendedMessage);
        let agreed = agree(theirs, ours);
        assert!(!agreed.extended_message && !agreed.enhanced_route_refresh);
        assert!(!agreed.ipv4_next_hop_v6);
        assert_eq!(agreed.graceful_restart, None);
        assert_eq!(agreed.encode_context().max_length, MAX_LENGTH);
        // RFC 8654 §6: to be read by whoever offered to.
        let read = if offered { 65_535 } else { MAX_LENGTH };
        assert_eq!(agreed.decode_context().max_length, read);
    }
    let agreed = agree(full(theirs()).with(restart(false)), full(ours()));
    assert!(agreed.extended_message && agreed.enhanced_route_refresh);
    assert!(agreed.ipv4_next_hop_v6);
    // RFC 4724 §3: the last of several.
    let last = agreed
        .graceful_restart
        .clone()
        .map(Capability::GracefulRestart);
    assert_eq!(last, Some(restart(false)));
    assert_eq!(agreed.encode_context().max_length, 65_535);
    let context = agreed.decode_context();
    assert_eq!(context.max_length, 65_535);
    assert!(context.ipv4_next_hop_v6 && context.enhanced_route_refresh);
}

/// RFC 7911 §4: identifiers come where they want to send them and we read them.
#[test]
fn path_identifiers_come_where_one_sends_and_the_other_reads() {
    use AddPath::{Both, Receive, Send};
    let family = Family::IPV6_UNICAST;
    for (theirs, ours_, come) in [
        (None, Some(Both), false),
        (Some(Both), None, false),
        (Some(Receive), Some(Both), false),
        (Some(Both), Some(Send), false),
        (Some(Send), Some(Receive), true),
        (Some(Both), Some(Both), true),
    ] {
        let add = |open: Open, direction: Option<AddPath>| match direction {
            Some(direction) => open.with(Capability::AddPath(vec![
                (family, Send),
                (family, direction),
            ])),
            None => open,
        };
        let remote = Open::new(Asn(65001), 90, [10, 0, 0, 2].into(), &BOTH);
        let agreed = add(remote, theirs).validate(None, &add(ours(), ours_));
        let context = agreed.unwrap().decode_context();
        let expected = if come { vec![family] } else { vec![] };
        assert_eq!(context.add_path, expected, "{theirs:?} {ours_:?}");
    }
}
