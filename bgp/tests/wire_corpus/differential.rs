//! Compares the decoder with another parser, bgpkit-parser, which shares no code with this crate.
//!
//! The results for a message are converted to text and compared field by field. The test lists each
//! accepted difference with its reason, and fails for any other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use bgpkit_parser::bgp::parse_bgp_message;
use bgpkit_parser::models::{
    AsPathSegment, AsnLength, AttributeValue, BgpMessage, BgpOpenMessage, BgpUpdateMessage,
    Community as TheirCommunity, ExtendedCommunity as Theirs, MetaCommunity, NetworkPrefix,
    NextHopAddress, Nlri, ParamValue,
};
use bytes::Bytes;
use ferrolb_bgp::wire::{
    AttributeErrorKind, Community, DecodeContext, DecodeError, ExtendedCommunity, Family,
    LinkBandwidth, Message, NextHop, Open, PathAttributes, Update,
};
use ipnet::{IpNet, Ipv4Net};

/// The content of an UPDATE: a text for each field present.
type Fields = BTreeMap<&'static str, String>;

fn put(fields: &mut Fields, name: &'static str, value: Option<impl ToString>) {
    if let Some(value) = value {
        fields.insert(name, value.to_string());
    }
}

fn put_prefixes(fields: &mut Fields, name: &'static str, prefixes: &[IpNet]) {
    let texts: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
    put(fields, name, (!texts.is_empty()).then(|| texts.join(" ")));
}

/// Adds a set, sorted and without duplicates.
fn put_set(fields: &mut Fields, name: &'static str, values: impl Iterator<Item = String>) {
    let values: BTreeSet<_> = values.collect();
    let text = values.into_iter().collect::<Vec<_>>().join(" ");
    put(fields, name, (!text.is_empty()).then_some(text));
}

fn ours(update: &Update) -> Fields {
    fn networks(prefixes: &[Ipv4Net]) -> Vec<IpNet> {
        prefixes.iter().copied().map(IpNet::V4).collect()
    }
    let mut fields = Fields::new();
    let all = &mut fields;
    put_prefixes(all, "withdrawn", &networks(&update.withdrawn));
    put_prefixes(all, "announced", &networks(&update.nlri));
    if let Some(reach) = &update.mp_reach {
        put_prefixes(all, "reachable", &reach.nlri);
        put(all, "reachable by", Some(reach.next_hop));
    }
    if let Some(unreach) = &update.mp_unreach {
        put_prefixes(all, "unreachable", &unreach.nlri);
    }
    let PathAttributes {
        origin,
        as_path,
        next_hop,
        med,
        local_pref,
        atomic_aggregate,
        aggregator,
        communities,
        extended_communities,
        ipv6_extended_communities,
        large_communities,
        unknown: _,
    } = &update.attributes;
    put(all, "origin", origin.map(|origin| origin.code()));
    put(all, "as_path", as_path.as_ref());
    put(all, "next_hop", *next_hop);
    put(all, "med", *med);
    put(all, "local_pref", *local_pref);
    put(all, "atomic_aggregate", atomic_aggregate.then_some("yes"));
    let aggregator = aggregator.map(|from| format!("{} {}", from.asn, from.router_id));
    put(all, "aggregator", aggregator);
    put_set(
        all,
        "communities",
        communities.iter().map(|one| one.to_string()),
    );
    put_set(
        all,
        "extended",
        extended_communities.iter().map(|one| hex(&one.0)),
    );
    put_set(
        all,
        "ipv6 extended",
        ipv6_extended_communities.iter().map(|one| hex(&one.0)),
    );
    put_set(
        all,
        "large",
        large_communities.iter().map(|one| one.to_string()),
    );
    fields
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn theirs(update: &BgpUpdateMessage) -> Fields {
    fn networks(prefixes: &[NetworkPrefix]) -> Vec<IpNet> {
        prefixes.iter().map(|one| one.prefix.trunc()).collect()
    }
    let mut fields = Fields::new();
    let all = &mut fields;
    put_prefixes(all, "withdrawn", &networks(&update.withdrawn_prefixes));
    put_prefixes(all, "announced", &networks(&update.announced_prefixes));
    let attributes = &update.attributes;
    let unicast = |nlri: &&Nlri| u8::from(nlri.safi) == 1;
    if let Some(reach) = attributes.get_reachable_nlri().filter(unicast) {
        put_prefixes(all, "reachable", &networks(&reach.prefixes));
        put(all, "reachable by", reach.next_hop.map(next_hop));
    }
    if let Some(unreach) = attributes.get_unreachable_nlri().filter(unicast) {
        put_prefixes(all, "unreachable", &networks(&unreach.prefixes));
    }
    let seen = |code| attributes.iter().find(|one| one.attr_code() == code);
    put(all, "origin", seen(1).map(|_| attributes.origin() as u8));
    put(
        all,
        "as_path",
        attributes.effective_as_path().map(|path| as_path(&path)),
    );
    if let Some(AttributeValue::NextHop(IpAddr::V4(next_hop))) = seen(3) {
        put(all, "next_hop", Some(next_hop));
    }
    put(all, "med", attributes.multi_exit_discriminator());
    put(all, "local_pref", attributes.local_preference());
    let atomic = attributes.atomic_aggregate();
    put(all, "atomic_aggregate", atomic.then_some("yes"));
    let aggregator = attributes.aggregator();
    put(
        all,
        "aggregator",
        aggregator.map(|(asn, id)| format!("{asn} {id}")),
    );
    let communities = || attributes.iter_communities();
    put_set(
        all,
        "communities",
        communities().filter_map(|one| match one {
            MetaCommunity::Plain(one) => Some(community(one).to_string()),
            _ => None,
        }),
    );
    put_set(
        all,
        "extended",
        communities().filter_map(|one| match one {
            MetaCommunity::Extended(one) => Some(hex(&extended(&one))),
            _ => None,
        }),
    );
    put_set(
        all,
        "ipv6 extended",
        communities().filter_map(|one| match one {
            MetaCommunity::Ipv6Extended(one) => Some(hex(&[
                &[one.community_type.into(), one.subtype],
                &one.global_admin.octets()[..],
                &one.local_admin,
            ]
            .concat())),
            _ => None,
        }),
    );
    put_set(
        all,
        "large",
        communities().filter_map(|one| match one {
            MetaCommunity::Large(one) => {
                let [first, second] = one.local_data;
                Some(format!("{}:{first}:{second}", one.global_admin))
            }
            _ => None,
        }),
    );
    fields
}

fn next_hop(next_hop: NextHopAddress) -> NextHop {
    let v6 = |global, second: Option<Ipv6Addr>| NextHop::V6 {
        global,
        link_local: second.filter(Ipv6Addr::is_unicast_link_local),
    };
    match next_hop {
        NextHopAddress::Ipv4(address) => NextHop::V4(address),
        NextHopAddress::Ipv6(global) => v6(global, None),
        NextHopAddress::Ipv6LinkLocal(global, second) => v6(global, Some(second)),
        other => panic!("not of unicast: {other:?}"),
    }
}

/// Sequences without brackets, other segments in brackets.
fn as_path(path: &bgpkit_parser::models::AsPath) -> String {
    let list = |asns: &[bgpkit_parser::models::Asn]| {
        let texts: Vec<_> = asns.iter().map(|asn| u32::from(*asn).to_string()).collect();
        texts.join(" ")
    };
    let segments: Vec<_> = path
        .iter_segments()
        .map(|segment| match segment {
            AsPathSegment::AsSequence(asns) => list(asns),
            AsPathSegment::AsSet(asns) => format!("{{{}}}", list(asns)),
            AsPathSegment::ConfedSequence(asns) => format!("({})", list(asns)),
            AsPathSegment::ConfedSet(asns) => format!("[{}]", list(asns)),
        })
        .collect();
    segments.join(" ")
}

fn community(community: TheirCommunity) -> Community {
    match community {
        TheirCommunity::NoExport => Community::NO_EXPORT,
        TheirCommunity::NoAdvertise => Community::NO_ADVERTISE,
        TheirCommunity::NoExportSubConfed => Community::NO_EXPORT_SUBCONFED,
        TheirCommunity::Custom(asn, value) => Community(u32::from(asn) << 16 | u32::from(value)),
    }
}

fn extended(community: &Theirs) -> Vec<u8> {
    let kind = u8::from(community.community_type());
    match community {
        Theirs::TransitiveTwoOctetAs(one) | Theirs::NonTransitiveTwoOctetAs(one) => {
            let asn = u32::from(one.global_admin).to_be_bytes();
            [&[kind, one.subtype], &asn[2..], &one.local_admin].concat()
        }
        Theirs::TransitiveIpv4Addr(one) | Theirs::NonTransitiveIpv4Addr(one) => {
            let address = one.global_admin.octets();
            [&[kind, one.subtype], &address[..], &one.local_admin].concat()
        }
        Theirs::TransitiveFourOctetAs(one) | Theirs::NonTransitiveFourOctetAs(one) => {
            let asn = u32::from(one.global_admin).to_be_bytes();
            [&[kind, one.subtype], &asn[..], &one.local_admin].concat()
        }
        Theirs::TransitiveOpaque(one) | Theirs::NonTransitiveOpaque(one) => {
            [&[kind, one.subtype], &one.value[..]].concat()
        }
        Theirs::LinkBandwidth(one) => ExtendedCommunity::from(LinkBandwidth {
            asn: one.global_admin,
            octets_per_second: one.bandwidth,
            transitive: one.transitive,
        })
        .0
        .to_vec(),
        Theirs::Raw(octets) => octets.to_vec(),
        other => format!("{other:?}").into_bytes(),
    }
}

/// The fields in which the two parsers differ.
pub(super) fn differences(octets: &[u8], context: &DecodeContext) -> Vec<String> {
    let length = match context.four_octet_asn {
        true => AsnLength::Bits32,
        false => AsnLength::Bits16,
    };
    let mut input = Bytes::copy_from_slice(octets);
    let theirs_ = parse_bgp_message(&mut input, false, &length);
    let ours_ = Message::decode(octets, context).expect("as long as its header says");
    match (ours_, theirs_) {
        (Ok(Message::Update(ours_)), Ok(BgpMessage::Update(theirs_))) => {
            if !is_clean(&ours_) {
                // Error handling has its own tests.
                return vec![];
            }
            let (ours_, theirs_) = (ours(&ours_), theirs(&theirs_));
            let names: BTreeSet<_> = ours_.keys().chain(theirs_.keys()).collect();
            names
                .into_iter()
                .filter(|name| ours_.get(*name) != theirs_.get(*name))
                .map(|name| format!("{name} differs"))
                .collect()
        }
        (Ok(Message::Open(ours_)), Ok(BgpMessage::Open(theirs_))) => open(&ours_, &theirs_),
        (Ok(ours_), Ok(theirs_)) => {
            let same = matches!(
                (&ours_, &theirs_),
                (Message::Keepalive, BgpMessage::KeepAlive)
                    | (Message::Notification(_), BgpMessage::Notification(_))
                    | (Message::RouteRefresh(_), BgpMessage::RouteRefresh(_))
            );
            if same {
                vec![]
            } else {
                vec!["another type".to_owned()]
            }
        }
        (Err(DecodeError::Attribute { .. }), Ok(_)) => {
            vec!["only we reject: an attribute error without routes".to_owned()]
        }
        (Err(error), Ok(_)) => vec![format!("only we reject: {error}")],
        (Ok(_), Err(error)) => vec![format!("only they reject: {error}")],
        (Err(_), Err(_)) => vec![],
    }
}

/// Compares the fixed fields, and the capabilities by code.
fn open(ours: &Open, theirs: &BgpOpenMessage) -> Vec<String> {
    let their_codes: Vec<u8> = theirs
        .opt_params
        .iter()
        .flat_map(|parameter| match &parameter.param_value {
            ParamValue::Capacities(capabilities) => &capabilities[..],
            ParamValue::Raw(_) => &[],
        })
        .map(|capability| capability.ty.into())
        .collect();
    let our_codes = ours.capabilities.iter().map(|one| one.code().0);
    let fields = [
        ("version", ours.version == theirs.version),
        ("asn", u32::from(ours.asn) == u32::from(theirs.asn)),
        ("hold time", ours.hold_time == theirs.hold_time),
        ("router id", ours.router_id == theirs.bgp_identifier),
        ("capabilities", our_codes.eq(their_codes)),
    ];
    let differ = fields.into_iter().filter(|(_, same)| !same);
    differ.map(|(name, _)| format!("{name} differs")).collect()
}

/// Whether the UPDATE has no errors except for routes of other families.
fn is_clean(update: &Update) -> bool {
    update
        .errors
        .iter()
        .all(|error| matches!(error.kind, AttributeErrorKind::FamilyNotNegotiated(_)))
}

/// The context with the fewest errors, because a recording lacks the negotiated parameters.
pub(super) fn likely_context(octets: &[u8]) -> Option<DecodeContext> {
    let context = |(four_octet_asn, ibgp, ipv4_next_hop_v6)| DecodeContext {
        four_octet_asn,
        ibgp,
        ipv4_next_hop_v6,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        max_length: 65_535,
        ..DecodeContext::default()
    };
    let faults = |context: &DecodeContext| match Message::decode(octets, context)? {
        Ok(Message::Update(update)) if !is_clean(&update) => Some(1),
        Ok(_) => Some(0),
        Err(_) => Some(2),
    };
    let choices = [
        (true, true, false),
        (true, false, false),
        (false, true, false),
        (false, false, false),
        (true, false, true),
    ];
    let contexts = choices.into_iter().map(context);
    let rated = contexts.filter_map(|context| Some((faults(&context)?, context)));
    rated
        .min_by_key(|(faults, _)| *faults)
        .map(|(_, context)| context)
}
