//! The rules of BGPPeers.

use ferrolb_bgp::config::{HoldTime, limits};

use super::{Rule, duration_rules, interface_rule, is_duration, set};
use crate::core::model::drain::Drain;

/// The rules of BGPPeers.
pub(in super::super) fn peer_rules() -> Vec<Rule> {
    let mut rules = address_rules();
    rules.extend(neighbor_rules());
    rules.extend(source_rules());
    rules.extend(asn_rules());
    rules.extend(session_rules());
    rules.extend(timer_rules());
    rules.extend(keepalive_rules());
    rules.push(send_hold_rule());
    rules
}

/// An expression: the boolean field is true.
fn is(field: &str) -> String {
    format!("(has(self.{field}) && self.{field})")
}

/// The form of each address, network and name.
fn address_rules() -> Vec<Rule> {
    let networks = |message: &str| format!("is 0.0.0.0/0 or ::/0: {message}");
    vec![
        Rule::text(
            "peerAddress",
            "self == '' || isIP(self)".to_owned(),
            "is not an IP address: write 10.0.0.1 or 2001:db8::1, without a port, a length or a \
             zone; names are not resolved",
        ),
        Rule::text(
            "peerAddress",
            "!isIP(self) || !(ip(self).isUnspecified() || \
             cidr('224.0.0.0/4').containsIP(self) || cidr('ff00::/8').containsIP(self))"
                .to_owned(),
            "is not the address of a router: set the router's IP address",
        ),
        Rule::text(
            "peerNetwork",
            "self == '' || isCIDR(self)".to_owned(),
            "is not a network: write 10.0.0.0/24",
        ),
        Rule::text(
            "peerNetwork",
            "!isCIDR(self) || cidr(self).prefixLength() > 0".to_owned(),
            networks("it would accept every address, set the network of the routers"),
        ),
        Rule::text(
            "sourceAddress",
            "self == '' || isIP(self) || isCIDR(self)".to_owned(),
            "is neither an address nor a network: write 10.0.0.9 or 10.0.0.0/24",
        ),
        Rule::text(
            "sourceAddress",
            "!isCIDR(self) || cidr(self).prefixLength() > 0".to_owned(),
            networks(
                "it contains every address, set the network in which each node has one address",
            ),
        ),
        Rule::text(
            "routerID",
            "self == '' || (isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified())"
                .to_owned(),
            "is not an IPv4 address other than 0.0.0.0 (RFC 6286): write one, or remove it",
        ),
        Rule::text(
            "vrf",
            "self == ''".to_owned(),
            "names a VRF, which is not supported yet: remove it, or use another BGP speaker for \
             this peer",
        ),
        interface_rule("interface", true),
        interface_rule("sourceInterface", true),
    ]
}

/// Which router.
fn neighbor_rules() -> Vec<Rule> {
    let (address, network) = (set("peerAddress"), set("peerNetwork"));
    let interface = set("interface");
    vec![
        Rule::between(
            "peerAddress",
            format!("[{address}, {network}, {interface}].exists_one(given, given)"),
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        Rule::between(
            "peerPort",
            format!("!has(self.peerPort) || !{network}"),
            "has no effect with peerNetwork, because the routers connect to this node: remove it, \
             or use peerAddress",
        ),
        Rule::between(
            "sourceInterface",
            format!(
                "!{address} || !isIP(self.peerAddress) || ip(self.peerAddress).family() == 4 || \
                 !ip(self.peerAddress).isLinkLocalUnicast() || {}",
                set("sourceInterface")
            ),
            "is missing, but peerAddress is a link-local address: set its interface, or use a \
             global address",
        ),
        Rule::between(
            "sourceInterface",
            format!(
                "!{interface} || !{} || self.sourceInterface == self.interface",
                set("sourceInterface")
            ),
            "conflicts with interface, which the session is bound to: remove it",
        ),
    ]
}

/// An expression: 4 or 6, the family of a field that is an address or a network, else 0.
fn family(field: &str) -> String {
    let text = format!("self.{field}");
    format!(
        "(!has({text}) ? 0 : isIP({text}) ? ip({text}).family() : isCIDR({text}) ? \
         cidr({text}).ip().family() : 0)"
    )
}

/// Our address.
fn source_rules() -> Vec<Rule> {
    let (source, address) = (set("sourceAddress"), set("peerAddress"));
    let (ours, routers, networks) = (
        family("sourceAddress"),
        family("peerAddress"),
        family("peerNetwork"),
    );
    vec![
        Rule::between(
            "sourceAddress",
            format!("[{routers}, {networks}].all(f, f == 0 || {ours} in [0, f])"),
            "is of another family than peerAddress or peerNetwork: set one of the same family",
        ),
        Rule::between(
            "sourceAddress",
            format!(
                "!{source} || !{address} || !isIP(self.sourceAddress) || \
                 !isIP(self.peerAddress) || !cidr(self.sourceAddress + \
                 (ip(self.sourceAddress).family() == 4 ? '/32' : \
                 '/128')).containsIP(self.peerAddress)"
            ),
            "is the same as peerAddress: set an address of the node",
        ),
        Rule::between(
            "sourceAddress",
            format!("!{source} || !{}", set("interface")),
            "conflicts with interface: the session has the link-local address of the interface; \
             remove it",
        ),
    ]
}

/// The AS numbers, and what applies to eBGP only.
fn asn_rules() -> Vec<Rule> {
    let number = "(has(self.peerASN) && self.peerASN != 0)";
    let same = "(has(self.peerASN) && self.peerASN == (has(self.localASN) ? self.localASN : \
        self.myASN))";
    let ebgp_only = "applies to eBGP only, but myASN (or localASN) and peerASN (or dynamicASN) are \
        the same AS: remove it";
    vec![
        Rule::between(
            "peerASN",
            format!("{number} != {}", set("dynamicASN")),
            "set either peerASN or dynamicASN",
        ),
        Rule::between(
            "ebgpMultiHop",
            format!("!{} || !{same}", is("ebgpMultiHop")),
            ebgp_only,
        ),
        Rule::between(
            "prepend",
            format!(
                "!has(self.prepend) || self.prepend == 0 || !({same} || (has(self.dynamicASN) && \
                 self.dynamicASN == 'internal'))"
            ),
            ebgp_only,
        ),
    ]
}

/// The other settings of the session.
fn session_rules() -> Vec<Rule> {
    vec![
        Rule::between(
            "password",
            format!(
                "!({} && has(self.passwordSecret) && has(self.passwordSecret.name) && \
                 self.passwordSecret.name != '')",
                set("password")
            ),
            "set at most one of password and passwordSecret",
        ),
        Rule::between(
            "ttlSecurity",
            format!("!(has(self.ttlSecurity) && {})", is("ebgpMultiHop")),
            "ttlSecurity already allows several hops: remove ebgpMultiHop",
        ),
        Rule::between(
            "bfdStrict",
            format!("!{} || {}", is("bfdStrict"), set("bfdProfile")),
            "bfdStrict requires BFD: set bfdProfile",
        ),
        Rule::between(
            "restartTime",
            "!has(self.restartTime) || !has(self.enableGracefulRestart) || \
             self.enableGracefulRestart"
                .to_owned(),
            "restartTime conflicts with enableGracefulRestart: false: remove one of them",
        ),
    ]
}

/// An expression: the field is a duration.
fn given(field: &str) -> String {
    format!(
        "(has(self.{field}) && {})",
        is_duration(&format!("self.{field}"))
    )
}

/// The form and the limits of each time, as [`crate::core::config::timers`] checks them.
fn timer_rules() -> Vec<Rule> {
    let seconds =
        |min: u16, max: u16| format!("($t.getSeconds() >= {min} && $t.getSeconds() <= {max})");
    let (hold_min, hold_max) = (HoldTime::MIN.as_secs(), HoldTime::MAX.as_secs());
    let keepalive_min = limits::KEEPALIVE_TIME_MIN.as_secs();
    let zero_or = |limit: String| format!("($t == duration('0s') || {limit})");
    let seconds_max = |max: u16| format!("is out of range: use 1s to {max}s");
    let drain_max = Drain::MAX_TIME.as_secs();
    let mut rules = Vec::new();
    rules.extend(duration_rules(
        "holdTime",
        &zero_or(seconds(hold_min, hold_max)),
        format!("is out of range: use 0s (off), or {hold_min}s to {hold_max}s (RFC 4271)"),
    ));
    rules.extend(duration_rules(
        "keepaliveTime",
        &zero_or(format!("$t >= duration('{keepalive_min}s')")),
        format!("is too short: use 0s (a third of holdTime), or {keepalive_min}s and more"),
    ));
    rules.extend(duration_rules(
        "connectTime",
        &format!(
            "({} && $t.getMilliseconds() % 1000 == 0)",
            seconds(1, u16::MAX)
        ),
        format!("is not a whole number of seconds from 1s to {}s", u16::MAX),
    ));
    rules.extend(duration_rules(
        "sendHoldTime",
        &seconds(1, u16::MAX),
        seconds_max(u16::MAX),
    ));
    rules.extend(duration_rules(
        "restartTime",
        &seconds(1, limits::RESTART_TIME_MAX),
        seconds_max(limits::RESTART_TIME_MAX),
    ));
    rules.extend(duration_rules(
        "drain/properties/time",
        &format!("$t <= duration('{drain_max}s')"),
        format!("is out of range: use 0s to {drain_max}s"),
    ));
    rules
}

/// The keepalive time and the hold time, which follow from each other.
fn keepalive_rules() -> [Rule; 2] {
    let (hold, keepalive) = (given("holdTime"), given("keepaliveTime"));
    let longer = Rule::between(
        "keepaliveTime",
        format!(
            "!{hold} || !{keepalive} || duration(self.keepaliveTime) <= duration(self.holdTime)"
        ),
        "keepaliveTime is longer than holdTime: use a third of it",
    );
    let longer = longer.found(
        "'keepaliveTime ' + self.keepaliveTime + ' is longer than holdTime ' + self.holdTime + ': \
         use a third of it'"
            .to_owned(),
    );
    let max = HoldTime::MAX.as_secs() / 3;
    let alone = Rule::between(
        "keepaliveTime",
        format!(
            "has(self.holdTime) || !{keepalive} || duration(self.keepaliveTime).getSeconds() <= \
             {max}"
        ),
        format!(
            "keepaliveTime without holdTime is at most {max}s: the hold time is three times that"
        ),
    );
    [longer, alone]
}

/// The send hold time is longer than the hold time (RFC 9687), which may follow from the keepalive
/// time.
fn send_hold_rule() -> Rule {
    let default = HoldTime::DEFAULT.as_secs();
    let keepalive = "duration(self.keepaliveTime)";
    let (hold, keepalives) = (given("holdTime"), given("keepaliveTime"));
    let seconds = format!(
        "({hold} ? duration(self.holdTime).getSeconds() : {keepalives} ? ({keepalive} + \
         {keepalive} + {keepalive}).getSeconds() : {default})"
    );
    let message = "is not longer than the hold time, which holdTime or keepaliveTime sets \
        (RFC 9687): set a longer one";
    let rule = Rule::between(
        "sendHoldTime",
        format!(
            "!{} || duration(self.sendHoldTime).getSeconds() > {seconds}",
            given("sendHoldTime")
        ),
        message,
    );
    rule.found(format!(
        "self.sendHoldTime + ' is not longer than the hold time, ' + (has(self.holdTime) ? \
         self.holdTime : has(self.keepaliveTime) ? 'three times ' + self.keepaliveTime : \
         '{default}s') + ', which holdTime or keepaliveTime sets (RFC 9687): set a longer one'"
    ))
}
