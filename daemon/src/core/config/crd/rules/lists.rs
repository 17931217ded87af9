//! The rules of BGPAdvertisements, L2Advertisements and Communities: of the entries of their lists,
//! and between fields.

use ferrolb_bgp::wire::Community;
use ferrolb_layer2::limits as layer2;

use super::{Rule, duration_rules, interface_rule};

/// The key of a label, and a load balancer class: an optional DNS name and a name.
const LABEL_KEY: &str = "^([A-Za-z0-9]([-.A-Za-z0-9]{0,251}[A-Za-z0-9])?/)?\
    [A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$";

/// An expression: the text is a community of two or four octets in each number.
fn is_community() -> String {
    let part = |index: usize| format!("int(self.split(':')[{index}])");
    let standard = format!(
        "(self.matches('^[0-9]{{1,5}}:[0-9]{{1,5}}$') && {} <= {max} && {} <= {max})",
        part(0),
        part(1),
        max = u16::MAX
    );
    let large = format!(
        "(self.matches('^large(:[0-9]{{1,10}}){{3}}$') && {} <= {max} && {} <= {max} && {} <= \
         {max})",
        part(1),
        part(2),
        part(3),
        max = u32::MAX
    );
    format!("{standard} || {large}")
}

const COMMUNITY_FORM: &str = "is not a community: write 64512:100, large:64512:1:100, or a \
    well-known name like no-export";

/// The rules of BGPAdvertisements.
pub(in super::super) fn advertisement_rules() -> Vec<Rule> {
    let host_routes = "((!has(self.aggregationLength) || self.aggregationLength == 32) && \
        (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))";
    vec![
        Rule::between(
            "serviceSelectors",
            format!(
                "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || {host_routes}"
            ),
            "serviceSelectors can't be combined with an aggregation length: an aggregate covers \
             all services in it",
        ),
        Rule::between(
            "announceAggregates",
            format!(
                "!has(self.announceAggregates) || self.announceAggregates != 'always' || \
                 !{host_routes}"
            ),
            "announceAggregates: always has no effect on host routes: set aggregationLength below \
             32 or aggregationLengthV6 below 128",
        ),
        Rule::text(
            "communities/items",
            format!("!self.contains(':') || {}", is_community()),
            COMMUNITY_FORM,
        ),
        Rule::text(
            "communityLabels/items",
            format!("self.matches('{LABEL_KEY}')"),
            "can't be the key of a label: write one such as community or example.com/community",
        ),
        class_rule(),
    ]
}

fn class_rule() -> Rule {
    Rule::text(
        "loadBalancerClasses/items",
        format!("self.matches('{LABEL_KEY}')"),
        "is no class: write the spec.loadBalancerClass of the Services, such as example.com/other, \
         or any for every class",
    )
}

/// The rules of Communities.
pub(in super::super) fn community_rules() -> Vec<Rule> {
    let names: Vec<String> = Community::well_known_names()
        .map(|name| format!("'{}'", name.to_ascii_lowercase()))
        .collect();
    vec![Rule::text(
        "communities/items/properties/value",
        format!(
            "self.lowerAscii().replace('-', '_') in [{}] || {}",
            names.join(", "),
            is_community()
        ),
        COMMUNITY_FORM,
    )]
}

/// The rules of L2Advertisements.
pub(in super::super) fn layer2_rules() -> Vec<Rule> {
    let (min, max) = layer2::HELLO_INTERVAL_RANGE;
    let (min, max) = (
        format!("{}ms", min.as_millis()),
        format!("{}s", max.as_secs()),
    );
    let mut rules = vec![interface_rule("interfaces/items", false), class_rule()];
    rules.extend(duration_rules(
        "helloInterval",
        &format!("($t >= duration('{min}') && $t <= duration('{max}'))"),
        format!("is out of range: use {min} to {max}"),
    ));
    rules
}
