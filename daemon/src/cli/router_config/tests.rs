//! The configurations as snapshots, and what must be true of all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::cli::plan::plan_manifests;
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};
use crate::core::index::Index;
use crate::core::plan::fill;
use crate::core::router_config::{RouterConfig, Syntax, router_config};
use crate::runtime::source::manifests::{Loader, Manifests, changes};

/// The password in `rack.yaml`.
const PASSWORD: &str = "rack-42-secret";

fn namespaces() -> [String; 1] {
    [CONFIG_NAMESPACE.to_owned()]
}

fn load(paths: Vec<PathBuf>) -> Manifests {
    Loader::new(paths, ConfigPlaces::of(&namespaces())).load()
}

fn index_of(manifests: &Manifests) -> Index {
    let changes = changes(&manifests.objects, &namespaces());
    fill(Index::for_prediction(), changes)
}

/// The manifests in `tests/router_config/`.
fn case(name: &str) -> Index {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/router_config");
    let manifests = load(vec![folder.join(format!("{name}.yaml"))]);
    assert!(manifests.errors.is_empty(), "{:?}", manifests.errors);
    index_of(&manifests)
}

/// Manifests in a text.
fn text_case(text: &str) -> Index {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.yaml");
    std::fs::write(&file, text).expect("written");
    index_of(&load(vec![file]))
}

fn generate(index: &Index, router: &[&str], syntax: Syntax) -> RouterConfig {
    let router: Vec<String> = router.iter().map(|name| (*name).to_owned()).collect();
    router_config(index, &router, syntax).expect("a configuration")
}

fn error(index: &Index, router: &[&str]) -> String {
    let router: Vec<String> = router.iter().map(|name| (*name).to_owned()).collect();
    let error = router_config(index, &router, Syntax::Frr).expect_err("an error");
    error.to_string()
}

/// Both addresses of the router in `rack.yaml`.
const RACK: &[&str] = &["10.0.0.1", "fd00::1"];

#[test]
fn every_syntax_has_what_the_router_needs() {
    let index = case("rack");
    for syntax in Syntax::ALL {
        let config = generate(&index, RACK, syntax);
        insta::assert_snapshot!(syntax.name(), config.text);
    }
}

#[test]
fn unnumbered_sessions_have_neighbors_by_interface() {
    let index = case("unnumbered");
    for syntax in [Syntax::Frr, Syntax::Bird] {
        let config = generate(&index, &[], syntax);
        assert_eq!(config.left_out, Vec::<String>::new());
        insta::assert_snapshot!(format!("unnumbered-{}", syntax.name()), config.text);
    }
}

#[test]
fn a_session_that_the_syntax_can_not_express_is_named_in_a_comment_and_returned() {
    let index = case("unnumbered");
    let config = generate(&index, &["eth1"], Syntax::Gobgp);
    let [missing] = &config.left_out[..] else {
        panic!("{:?}", config.left_out);
    };
    assert!(
        missing.starts_with("BGPPeer metallb-system/fabric: it is unnumbered"),
        "{missing}"
    );
    assert!(
        config
            .text
            .contains("# NOT CONFIGURED: BGPPeer metallb-system/fabric:"),
        "{}",
        config.text
    );
}

#[test]
fn no_configuration_contains_a_password() {
    let inline = PEER.replace("SPEC", ", password: rack-42-secret");
    let of_both = [
        (case("rack"), "${PASSWORD_METALLB_SYSTEM_TOR_PASSWORD}"),
        (text_case(&inline), "${PASSWORD_BGPPEER_METALLB_SYSTEM_TOR}"),
    ];
    for (index, variable) in of_both {
        for syntax in Syntax::ALL {
            let config = generate(&index, &["10.0.0.1"], syntax);
            let all = format!("{config:?}");
            assert!(!all.contains(PASSWORD), "{}: {all}", syntax.name());
            let statements = statements(&config.text);
            assert!(
                statements.contains(variable),
                "{}: {statements}",
                syntax.name()
            );
            assert!(config.text.contains("export PASSWORD_"), "{}", config.text);
        }
    }
}

/// A node and the BGPPeer `tor`, with `SPEC` at the end of its spec.
const PEER: &str = "\
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 10.0.0.11}]}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1SPEC}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
";

fn tor(spec: &str) -> Index {
    text_case(&PEER.replace("SPEC", spec))
}

/// The text without comments.
fn statements(text: &str) -> String {
    let lines = text.lines();
    let statements = lines.filter(|line| !line.trim_start().starts_with(['!', '#']));
    statements.map(|line| format!("{line}\n")).collect()
}

/// The prefixes that FRR's prefix lists permit: networks with a length.
fn permitted(text: &str) -> Vec<(IpNet, u8)> {
    let lists = text
        .lines()
        .filter(|line| line.contains(" prefix-list ferrolb_"));
    let entries = lists.filter_map(|line| line.split_once(" permit "));
    let entries = entries.map(|(_, entry)| {
        let words: Vec<&str> = entry.split(' ').collect();
        let network: IpNet = words[0].parse().expect("a network");
        let length = match words[..] {
            [_] => network.prefix_len(),
            [_, "ge", low, "le", high] if low == high => low.parse().expect("a length"),
            _ => panic!("{entry}"),
        };
        (network, length)
    });
    entries.collect()
}

/// The cases of `ferrolb plan`: every route that a node announces passes the filter of its router.
#[test]
fn every_planned_route_passes_the_filter() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut checked = 0;
    for name in [
        "aggregates",
        "aggregates-always",
        "classes",
        "families",
        "labels",
        "peers",
        "selectors",
        "two-pools",
        "weights",
    ] {
        let paths = ["base", name].map(|name| folder.join(format!("{name}.yaml")));
        let manifests = load(paths.to_vec());
        let plan = plan_manifests(&manifests, &namespaces(), Index::for_prediction());
        let index = index_of(&manifests);
        for route in &plan.routes {
            let peer = &index.config().peers[&route.peer];
            let Some(router) = peer.session.remote.router() else {
                continue;
            };
            let router = router.ip().to_string();
            let config = router_config(&index, &[router], Syntax::Frr);
            let text = config.expect("a configuration").text;
            let passes = permitted(&text).into_iter().any(|(network, length)| {
                network.contains(&route.prefix) && length == route.prefix.prefix_len()
            });
            assert!(passes, "{name}: {route:?} does not pass:\n{text}");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn the_filter_accepts_nothing_else() {
    let text = generate(&case("rack"), RACK, Syntax::Frr).text;
    let permitted = permitted(&text);
    for outside in [
        "192.0.2.0/25",    // a pool whose addresses are announced one by one
        "192.0.2.128/32",  // the pool of another router
        "192.0.3.1/32",    // no pool
        "198.51.100.0/24", // longer and shorter than the aggregates
        "198.51.100.0/27",
        "203.0.113.8/32", // beside the range
        "203.0.113.15/32",
        "203.0.113.8/29",
        "2001:db8::/64",
        "0.0.0.0/0",
    ] {
        let prefix: IpNet = outside.parse().expect("a prefix");
        let passes = permitted
            .iter()
            .any(|(network, length)| network.contains(&prefix) && *length == prefix.prefix_len());
        assert!(!passes, "{outside}: {permitted:?}");
    }
}

#[test]
fn a_router_that_no_bgp_peer_names_is_refused_with_the_nearest_one() {
    let index = case("rack");
    assert_eq!(
        error(&index, &["10.0.0.3"]),
        "no BGPPeer has a session with the router 10.0.0.3; did you mean 10.0.0.1?"
    );
    let unlike = error(&index, &["eth1.100"]);
    assert!(
        unlike.contains("the objects name: 10.0.0.1 (BGPPeer far, tor); 10.0.0.2"),
        "{unlike}"
    );
    let several = error(&index, &[]);
    for part in [
        "--router",
        "10.0.0.1 (BGPPeer far, tor)",
        "fd00::1 (BGPPeer tor-v6)",
    ] {
        assert!(several.contains(part), "{several}");
    }
    assert!(error(&Index::for_prediction(), &[]).contains("no valid BGPPeer"));
}

#[test]
fn contradicting_as_numbers_are_refused() {
    let other = PEER.replace("SPEC", "").replace("name: tor", "name: other");
    let other = other
        .replace("64513", "64514")
        .replace("10.0.0.1}", "10.0.0.2}");
    let index = text_case(&format!("{}---\n{other}", PEER.replace("SPEC", "")));
    let error = error(&index, &["10.0.0.1", "10.0.0.2"]);
    assert!(
        error.contains("BGPPeer other expects AS 64514 of the router, but BGPPeer tor AS 64513"),
        "{error}"
    );
}

#[test]
fn a_network_of_routers_needs_the_address_of_one() {
    let network = PEER.replace("peerAddress: 10.0.0.1SPEC", "peerNetwork: 10.0.0.0/29");
    let index = text_case(&network);
    assert!(error(&index, &[]).contains("any address in 10.0.0.0/29 (BGPPeer tor)"));
    let text = generate(&index, &["10.0.0.3"], Syntax::Bird).text;
    // The nodes only listen.
    assert!(text.contains("local 10.0.0.3 as 64513;"), "{text}");
    assert!(
        !text.contains("passive on;") && text.contains("connect retry time"),
        "{text}"
    );
}

#[test]
fn options_of_the_session_reach_the_router() {
    let index =
        tor(", ttlSecurity: 3, peerPort: 1179, passive: false, enableGracefulRestart: false");
    let frr = generate(&index, &[], Syntax::Frr).text;
    assert!(
        frr.contains(" neighbor ferrolb_tor ttl-security hops 3\n"),
        "{frr}"
    );
    assert!(
        frr.contains("start bgpd with -p 1179") && !frr.contains("update-delay 15"),
        "{frr}"
    );
    let bird = generate(&index, &[], Syntax::Bird).text;
    assert!(
        bird.contains("  local 10.0.0.1 port 1179 as 64513;\n"),
        "{bird}"
    );
    assert!(
        bird.contains("  multihop 3;\n  ttl security on;\n"),
        "{bird}"
    );
    assert!(!bird.contains("graceful restart"), "{bird}");
    let refused = generate(&index, &[], Syntax::Gobgp).left_out;
    assert!(refused[0].contains("its peerPort is 1179"), "{refused:?}");
    let internal = text_case(&PEER.replace("SPEC", "").replace("64513", "64512"));
    let bird = generate(&internal, &[], Syntax::Bird).text;
    assert!(bird.contains("  direct;\n"), "{bird}");
    let frr = generate(&internal, &[], Syntax::Frr).text;
    assert!(frr.contains("  maximum-paths ibgp 64\n"), "{frr}");
}

#[test]
fn bfd_that_the_router_lacks_is_a_remark_or_with_bfd_strict_an_obstacle() {
    let profile = "---\napiVersion: metallb.io/v1beta1\nkind: BFDProfile\n\
                   metadata: {name: fast, namespace: metallb-system}\n";
    let with = |spec: &str| text_case(&(PEER.replace("SPEC", spec) + profile));
    let config = generate(&with(", bfdProfile: fast"), &[], Syntax::Openbgpd);
    assert!(
        config.remarks[0].contains("OpenBGPD has no BFD"),
        "{config:?}"
    );
    assert!(config.left_out.is_empty(), "{config:?}");
    let strict = with(", bfdProfile: fast, bfdStrict: true");
    let config = generate(&strict, &[], Syntax::Openbgpd);
    assert!(
        config.left_out[0].contains("remove bfdStrict"),
        "{config:?}"
    );
    assert!(generate(&strict, &[], Syntax::Frr).left_out.is_empty());
}

#[test]
fn nodes_without_a_known_address_are_named() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-b}\n\
                status: {addresses: [{type: InternalIP, address: 'fd00::12'}]}\n";
    let config = generate(
        &text_case(&(PEER.replace("SPEC", "") + node)),
        &[],
        Syntax::Frr,
    );
    assert_eq!(
        config.left_out,
        [
            "BGPPeer.ferrolb.io metallb-system/tor on node node-b: it has no InternalIP of IPv4, \
             so the router can't know its address"
        ]
    );
    assert!(
        config
            .text
            .contains(" neighbor 10.0.0.11 peer-group ferrolb_tor\n")
    );
    let (_, without_nodes) = PEER.split_once("---\n").expect("documents");
    let config = generate(
        &text_case(&without_nodes.replace("SPEC", "")),
        &[],
        Syntax::Frr,
    );
    assert!(
        config.left_out[0].contains("the input has no Nodes"),
        "{config:?}"
    );
}

#[test]
fn an_invalid_object_is_named_since_the_configuration_lacks_it() {
    let bad = "---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\n\
               metadata: {name: bad, namespace: metallb-system}\n\
               spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.300}\n";
    let config = generate(
        &text_case(&(PEER.replace("SPEC", "") + bad)),
        &[],
        Syntax::Bird,
    );
    assert!(
        config.left_out[0].starts_with("BGPPeer metallb-system/bad: spec.peerAddress"),
        "{config:?}"
    );
}

/// Names in manifests may be any text.
#[test]
fn names_of_objects_become_no_statements() {
    let evil = "x\\n neighbor 6.6.6.6 remote-as 666\\r\\n}; */ \\\"";
    let text = PEER.replace("SPEC", ", passwordSecret: {name: \"EVIL\"}");
    let text = text
        .replace("name: tor", "name: \"EVIL\"")
        .replace("name: node-a", "name: \"EVIL\"");
    let index = text_case(&text.replace("EVIL", evil));
    for syntax in Syntax::ALL {
        let config = generate(&index, &["10.0.0.1"], syntax);
        let statements = statements(&config.text);
        for part in ["6.6.6.6 ", "neighbor 6.6.6.6", "*/"] {
            assert!(
                !statements.contains(part),
                "{}: {statements}",
                syntax.name()
            );
        }
        let lines: BTreeSet<&str> = config.text.split(['\n', '\r']).map(str::trim).collect();
        assert!(
            !lines.contains("neighbor 6.6.6.6 remote-as 666"),
            "{lines:?}"
        );
    }
}

#[test]
fn the_address_of_every_neighbor_is_one_of_a_node() {
    let index = case("rack");
    let nodes = index.nodes().values().flat_map(|node| &node.internal_ips);
    let nodes: BTreeSet<IpAddr> = nodes.copied().collect();
    let text = generate(&index, &["10.0.0.1"], Syntax::Frr).text;
    let neighbors = text.lines().filter_map(|line| {
        let (address, rest) = line.strip_prefix(" neighbor ")?.split_once(' ')?;
        rest.starts_with("peer-group ")
            .then(|| address.parse::<IpAddr>().expect("an address"))
    });
    let neighbors: BTreeSet<IpAddr> = neighbors.collect();
    assert_eq!(neighbors.len(), 3, "{text}");
    assert!(neighbors.is_subset(&nodes), "{neighbors:?}");
}

/// Two sessions of a node from one address can't have two addresses of one router.
#[test]
fn a_neighbor_that_two_bgp_peers_mean_is_configured_once() {
    let other = PEER
        .replace("SPEC", "")
        .replace("name: tor", "name: uplink");
    let other = other.replace("10.0.0.1}", "10.0.0.2}");
    let index = text_case(&format!("{}---\n{other}", PEER.replace("SPEC", "")));
    let config = generate(&index, &["10.0.0.1", "10.0.0.2"], Syntax::Frr);
    assert_eq!(
        config
            .text
            .matches(" neighbor 10.0.0.11 peer-group")
            .count(),
        1
    );
    let [missing] = &config.left_out[..] else {
        panic!("{:?}", config.left_out);
    };
    assert!(missing.contains("10.0.0.11 is a neighbor by"), "{missing}");
}

/// VyOS, Cumulus Linux and SONiC have FRR inside: only the comments at the beginning differ.
#[test]
fn systems_with_frr_inside_get_the_statements_that_frr_gets() {
    let index = case("rack");
    let of = |syntax| statements(&generate(&index, RACK, syntax).text);
    for syntax in [Syntax::Vyos, Syntax::Cumulus, Syntax::Sonic] {
        assert_eq!(of(syntax), of(Syntax::Frr), "{}", syntax.name());
    }
}

/// What was not run says so in its first line, and names the manuals.
#[test]
fn configurations_that_were_not_run_say_so_first() {
    let index = case("rack");
    for syntax in Syntax::ALL {
        let text = generate(&index, RACK, syntax).text;
        let first = text.lines().next().unwrap_or_default();
        let not_run = [Syntax::Eos, Syntax::Nxos, Syntax::Junos, Syntax::Routeros];
        let expected = not_run.contains(&syntax);
        assert_eq!(
            first.contains("generated, not run here"),
            expected,
            "{first}"
        );
        assert_eq!(text.contains("https://"), expected, "{text}");
    }
}
