use super::*;
use crate::wire::{Agreement, Asn, DecodeContext, Message};

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

/// Except for route refresh, which MetalLB doesn't offer.
#[test]
fn an_open_has_the_octets_of_metallbs() {
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
fn an_open_offers_families_route_refresh_and_four_octet_as_numbers() {
    let expected =
        "0033 01 04 fc00 005a 0a000001 16 0214 010400010001 010400020001 0200 41040000fc00";
    assert_eq!(ours().encode(), message(expected));
}

#[test]
fn the_opens_of_metallbs_tests_are_accepted() {
    let first = decode(
        "0041 01 04 0001 00b4 0a010101 24 0222 010400010001 010400010004 0200 4002012c \
         410400000001 45080001010100010401",
    )
    .unwrap();
    let agreed = Agreement::negotiate(&ours(), &first, Some(Asn(1))).unwrap();
    assert_eq!(agreed.families, [Family::IPV4_UNICAST]);
    assert_eq!(
        (
            agreed.hold_time.as_secs(),
            agreed.route_refresh,
            agreed.ibgp
        ),
        (90, true, false)
    );

    let second = decode("0025 01 04 fc1f 0028 c0a81241 08 0206 41040000fc1f").unwrap();
    let agreed = Agreement::negotiate(&ours(), &second, Some(Asn(64543))).unwrap();
    assert_eq!(agreed.families, [Family::IPV4_UNICAST]);
    assert_eq!(
        (agreed.hold_time.as_secs(), agreed.route_refresh),
        (40, false)
    );
    assert!(agreed.four_octet_asn);

    let third =
        "0033 01 04 fc1f 0028 c0a81045 16 0214 010400010001 0200 40020000 41040000fc1f 4600";
    assert!(Agreement::negotiate(&ours(), &decode(third).unwrap(), None).is_ok());

    let fourth = decode(
        "0035 01 04 fc1f 00b4 c0a81001 18 0206 010400010001 0202 8000 0202 0200 0206 41040000fc1f",
    )
    .unwrap();
    assert_eq!(fourth.capabilities.len(), 4);
    assert_eq!(fourth.sender_asn(), Asn(64543));
    assert_eq!(
        fourth.encode()[28..30],
        [18, 2],
        "we send all capabilities in one parameter"
    );
}

#[test]
fn the_extended_form_of_parameters_is_sent_if_needed_and_always_decoded_rfc9072_2() {
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
    // A length of 255 without the marker is the plain form (FRR issue 22355).
    let plain = message(&format!(
        "011c 01 04 fde9 005a 0aff0001 ff 02fd c8fb {}",
        "00".repeat(251)
    ));
    let decoded = Message::decode(&plain, &DecodeContext::default());
    assert!(matches!(decoded, Some(Ok(Message::Open(open))) if open.capabilities.len() == 1));
}

#[test]
fn capabilities_at_the_limit_of_the_plain_form_are_encoded_rfc9072_2() {
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
fn capabilities_beyond_4096_octets_are_omitted() {
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
fn duplicate_families_count_once() {
    let open = Open::new(Asn(1), 90, [1, 1, 1, 1].into(), &[BOTH, BOTH].concat());
    assert_eq!(open.families(), BOTH);
}

/// Inconsistent lengths, and basic capabilities of invalid length.
#[test]
fn malformed_optional_parameters_are_rejected_rfc4271_6_2() {
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
