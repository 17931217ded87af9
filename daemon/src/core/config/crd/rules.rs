//! The rules between fields, as CEL expressions with messages for the user: what the parser refuses
//! and a schema can't express.

use ferrolb_bgp::config::{HoldTime, limits};
use ferrolb_layer2::limits as layer2;
use serde_json::{Value, json};

/// The rules of BGPPeers.
pub(super) fn peer_rules() -> Value {
    let number = |field: &str| format!("(has(self.{field}) && self.{field} != 0)");
    let is = |field: &str| format!("(has(self.{field}) && self.{field})");
    let (address, network) = (set("peerAddress"), set("peerNetwork"));
    let rules = [
        (
            format!(
                "[{address}, {network}, {}].exists_one(given, given)",
                set("interface")
            ),
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            format!("{} != {}", number("peerASN"), set("dynamicASN")),
            "set either peerASN or dynamicASN",
        ),
        (
            format!(
                "!({} && has(self.passwordSecret) && has(self.passwordSecret.name) && \
                 self.passwordSecret.name != '')",
                set("password")
            ),
            "set at most one of password and passwordSecret",
        ),
        (
            format!("!(has(self.ttlSecurity) && {})", is("ebgpMultiHop")),
            "ttlSecurity already allows several hops: remove ebgpMultiHop",
        ),
        (
            format!("!{} || {}", is("bfdStrict"), set("bfdProfile")),
            "bfdStrict requires BFD: set bfdProfile",
        ),
        (
            "!has(self.restartTime) || !has(self.enableGracefulRestart) || \
             self.enableGracefulRestart"
                .to_owned(),
            "restartTime conflicts with enableGracefulRestart: false",
        ),
    ];
    let rules = rules.map(|(rule, message)| (rule, message.to_owned()));
    let rules = rules.into_iter().chain(timer_rules());
    rules
        .map(|(rule, message)| json!({ "rule": rule, "message": message }))
        .collect()
}

/// The rules of [`super::super::timers`] that CEL can express.
fn timer_rules() -> [(String, String); 3] {
    let (hold, keepalive) = (set("holdTime"), set("keepaliveTime"));
    let hold_min = HoldTime::MIN.as_secs();
    let keepalive_min = limits::KEEPALIVE_TIME_MIN.as_secs();
    [
        (
            format!(
                "!{hold} || duration(self.holdTime) == duration('0s') || duration(self.holdTime) \
                 >= duration('{hold_min}s')"
            ),
            format!("holdTime is 0s, or {hold_min}s and more (RFC 4271)"),
        ),
        (
            format!(
                "!{hold} || !{keepalive} || duration(self.keepaliveTime) <= \
                 duration(self.holdTime)"
            ),
            "keepaliveTime is longer than holdTime".to_owned(),
        ),
        (
            format!(
                "!{keepalive} || duration(self.keepaliveTime) == duration('0s') || \
                 duration(self.keepaliveTime) >= duration('{keepalive_min}s')"
            ),
            format!("keepaliveTime is 0s (a third of holdTime), or {keepalive_min}s and more"),
        ),
    ]
}

/// A CEL expression: the text field is set.
fn set(field: &str) -> String {
    format!("(has(self.{field}) && self.{field} != '')")
}

/// The rules of L2Advertisements.
pub(super) fn layer2_rules() -> Value {
    let (min, max) = layer2::HELLO_INTERVAL_RANGE;
    let (min, max) = (
        format!("{}ms", min.as_millis()),
        format!("{}s", max.as_secs()),
    );
    let interval = "duration(self.helloInterval)";
    json!([{
        "rule": format!(
            "!has(self.helloInterval) || ({interval} >= duration('{min}') && {interval} <= \
             duration('{max}'))"
        ),
        "message": format!("helloInterval is {min} to {max}"),
    }])
}

/// The rules of BGPAdvertisements.
pub(super) fn advertisement_rules() -> Value {
    let host_routes = "((!has(self.aggregationLength) || self.aggregationLength == 32) && \
        (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))";
    json!([
        {
            "rule": format!(
                "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || {host_routes}"
            ),
            "message": "serviceSelectors can't be combined with an aggregation length: an \
                aggregate covers all services in it",
        },
        {
            "rule": format!(
                "!has(self.announceAggregates) || self.announceAggregates != 'always' || \
                !{host_routes}"
            ),
            "message": "announceAggregates: always has no effect on host routes: set \
                aggregationLength below 32 or aggregationLengthV6 below 128",
        },
    ])
}
