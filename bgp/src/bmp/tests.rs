use bgpkit_parser::models::BgpMessage;
use bgpkit_parser::parser::bmp::messages::{
    BmpMessage, BmpMessageBody, PeerDownReason, PeerFlags, PerPeerFlags, StatType, StatsData,
};
use bgpkit_parser::parser::bmp::parse_bmp_msg;

use super::*;
use crate::capture::CapturedSession;
use crate::fsm::State;
use crate::rib::SessionEncoding;
use crate::wire::{Asn, Family, Notification, Open, end_of_rib, subcode};

const AT: Duration = Duration::new(1_764_000_000, 500_000_000);

fn open(asn: u32, router_id: Ipv4Addr) -> Bytes {
    Open::new(Asn(asn), 90, router_id, &[Family::IPV4_UNICAST]).encode()
}

fn up(remote: &str, local: &str, four_octet_asn: bool) -> SessionUp {
    let remote_router_id = Ipv4Addr::new(10, 255, 0, 1);
    SessionUp {
        session: CapturedSession {
            peer: "tor".to_owned(),
            template: None,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            local_asn: Asn(64512),
            // A peer without four-octet AS numbers has a small one.
            remote_asn: Asn(if four_octet_asn { 4_200_000_001 } else { 64513 }),
            four_octet_asn,
        },
        remote_router_id,
        open_sent: open(64512, Ipv4Addr::new(10, 0, 0, 11)),
        open_received: open(4_200_000_001, remote_router_id),
        encoding: SessionEncoding {
            families: vec![Family::IPV4_UNICAST],
            ebgp: Some(Asn(64512)),
            four_octet_asn,
            max_length: 4096,
            ipv4_next_hop: None,
            ipv6_next_hop: None,
            enhanced_route_refresh: false,
        },
    }
}

fn ipv4() -> SessionUp {
    up("10.0.0.1:179", "10.0.0.11:40000", true)
}

/// The message as bgpkit-parser reads it. Nothing is left.
fn read(mut message: Bytes) -> BmpMessage {
    let read = parse_bmp_msg(&mut message).unwrap_or_else(|error| panic!("{error}"));
    assert!(message.is_empty());
    read
}

/// The flags in the header of the peer, which must be the right one.
fn flags(read: &BmpMessage, address: &str) -> PeerFlags {
    let header = read.per_peer_header.unwrap();
    assert_eq!(header.peer_ip.to_string(), address);
    assert_eq!(header.peer_bgp_id, Ipv4Addr::new(10, 255, 0, 1));
    assert!((header.timestamp - 1_764_000_000.5).abs() < 0.001);
    match header.peer_flags {
        PerPeerFlags::PeerFlags(flags) => {
            let two_octet = flags.contains(PeerFlags::AS_SIZE_16BIT);
            let asn = if two_octet { 64513 } else { 4_200_000_001 };
            assert_eq!(header.peer_asn.to_u32(), asn);
            flags
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_says_who_it_is_and_ends_on_purpose() {
    let read_first = read(initiation("ferrolb 0.1.0", "node-a"));
    let BmpMessageBody::InitiationMessage(initiation) = read_first.message_body else {
        panic!("{read_first:?}");
    };
    let texts: Vec<&str> = initiation
        .tlvs
        .iter()
        .map(|tlv| tlv.info.as_str())
        .collect();
    assert_eq!(texts, ["ferrolb 0.1.0", "node-a"]);
    let last = read(termination());
    assert!(matches!(
        last.message_body,
        BmpMessageBody::TerminationMessage(_)
    ));
}

#[test]
fn peer_up_has_both_ends_and_both_opens() {
    let ends = [
        ("10.0.0.1:179", "10.0.0.11:40000"),
        ("[2001:db8::1]:179", "[2001:db8::11]:40000"),
    ];
    for (remote, local) in ends {
        let session = up(remote, local, true);
        let read = read(peer_up(&session, AT));
        let flags = flags(&read, &session.session.remote.ip().to_string());
        assert!(!flags.contains(PeerFlags::IS_ADJ_RIB_OUT));
        let BmpMessageBody::PeerUpNotification(up) = read.message_body else {
            panic!("{:?}", read.message_body);
        };
        assert_eq!(up.local_addr, session.session.local.ip());
        assert_eq!((up.local_port, up.remote_port), (40000, 179));
        let (BgpMessage::Open(sent), BgpMessage::Open(received)) = (up.sent_open, up.received_open)
        else {
            panic!("no OPENs");
        };
        assert_eq!(sent.bgp_identifier, Ipv4Addr::new(10, 0, 0, 11));
        assert_eq!(received.bgp_identifier, Ipv4Addr::new(10, 255, 0, 1));
    }
}

#[test]
fn updates_are_those_of_the_adj_rib_out_or_in() {
    let update = end_of_rib(Family::IPV4_UNICAST);
    for (sent, four_octet_asn) in [(true, true), (false, true), (true, false)] {
        let session = up("10.0.0.1:179", "10.0.0.11:40000", four_octet_asn);
        let read = read(route_monitoring(&session, AT, sent, &update));
        let flags = flags(&read, "10.0.0.1");
        assert_eq!(flags.contains(PeerFlags::IS_ADJ_RIB_OUT), sent);
        assert_eq!(flags.contains(PeerFlags::IS_POST_POLICY), sent);
        assert_eq!(flags.contains(PeerFlags::AS_SIZE_16BIT), !four_octet_asn);
        let BmpMessageBody::RouteMonitoring(monitoring) = read.message_body else {
            panic!("{:?}", read.message_body);
        };
        assert!(matches!(monitoring.bgp_message, BgpMessage::Update(_)));
    }
}

#[test]
fn peer_down_has_the_notification_or_the_event() {
    let down = |cause: &Cause| {
        let read = read(peer_down(&ipv4(), AT, cause));
        flags(&read, "10.0.0.1");
        match read.message_body {
            BmpMessageBody::PeerDownNotification(down) => (down.reason, down.data),
            other => panic!("{other:?}"),
        }
    };
    let cease = Notification::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN);
    let octets = Some(cease.encode().to_vec());
    assert_eq!(
        down(&Cause::Sent(cease.clone())),
        (
            PeerDownReason::LocalSystemClosedNotificationPduFollows,
            octets.clone()
        )
    );
    assert_eq!(
        down(&Cause::Received(cease)),
        (
            PeerDownReason::RemoteSystemClosedNotificationPduFollows,
            octets
        )
    );
    let closed = Cause::Closed {
        state: State::Established,
        error: None,
    };
    assert_eq!(
        down(&closed),
        (PeerDownReason::RemoteSystemsClosedNoData, None)
    );
    for (cause, event) in [
        (Cause::SendHoldTimerExpired, 29),
        (Cause::GracefulRestart, 2),
        (Cause::Replaced, 0),
    ] {
        let expected = PeerDownReason::LocalSystemClosedFsmEvenFollows;
        assert_eq!(down(&cause), (expected, Some(vec![0, event])), "{cause:?}");
    }
}

#[test]
fn statistics_have_the_types_of_the_registry() {
    let statistics = [
        Statistic::TreatedAsWithdraw(3),
        Statistic::AdjRibOut(70_000),
    ];
    let read = read(statistics_report(&ipv4(), AT, &statistics));
    flags(&read, "10.0.0.1");
    let BmpMessageBody::StatsReport(report) = read.message_body else {
        panic!("{:?}", read.message_body);
    };
    let counters = report.counters.into_iter();
    let counters: Vec<_> = counters
        .map(|counter| (counter.stat_type, counter.stat_data))
        .collect();
    assert_eq!(
        counters,
        [
            (
                StatType::UpdatesSubjectedToTreatAsWithdraw,
                StatsData::Counter(3)
            ),
            (
                StatType::RoutesInPostPolicyAdjRibOut,
                StatsData::Gauge(70_000)
            ),
        ]
    );
}
