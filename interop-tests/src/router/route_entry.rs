//! A route as received by a router, in a form that is the same for all products.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::IpAddr;

use anyhow::{Context, Result};
use ferrolb_bgp::wire::Community;
use ipnet::IpNet;
use serde_json::Value;

/// A route that a router received from a node, in the terms of `ferrolb plan -o json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteEntry {
    /// The announced prefix.
    pub prefix: IpNet,
    /// Next hop; the global address of an IPv6 next hop.
    pub next_hop: IpAddr,
    /// Communities as `64700:120`, sorted as strings.
    pub communities: Vec<String>,
    /// Large communities as `64700:1:2`, sorted as strings.
    pub large_communities: Vec<String>,
    /// LOCAL_PREF as received from an iBGP peer; none for eBGP.
    pub local_pref: Option<u32>,
}

impl RouteEntry {
    /// A route without communities and LOCAL_PREF.
    ///
    /// # Errors
    /// When the prefix or the next hop is malformed.
    pub fn new(prefix: &str, next_hop: &str) -> Result<Self> {
        Ok(Self {
            prefix: prefix.parse().context(prefix.to_owned())?,
            next_hop: next_hop.parse().context(next_hop.to_owned())?,
            communities: Vec::new(),
            large_communities: Vec::new(),
            local_pref: None,
        })
    }

    /// The route with these communities.
    #[must_use]
    pub fn communities(mut self, communities: &[&str]) -> Self {
        self.communities = sorted(communities.iter().map(ToString::to_string));
        self
    }

    /// The route with these large communities.
    #[must_use]
    pub fn large_communities(mut self, communities: &[&str]) -> Self {
        self.large_communities = sorted(communities.iter().map(ToString::to_string));
        self
    }

    /// The route with this LOCAL_PREF.
    #[must_use]
    pub fn local_pref(mut self, local_pref: u32) -> Self {
        self.local_pref = Some(local_pref);
        self
    }

    /// The routes to `peer` in the output of `ferrolb plan -o json`.
    ///
    /// # Errors
    /// When `plan` does not have the documented format.
    pub fn from_plan(plan: &Value, peer: &str) -> Result<BTreeSet<Self>> {
        let routes = plan["routes"].as_array().context("plan without routes")?;
        routes
            .iter()
            .filter(|route| route["peer"] == peer)
            .map(|route| {
                let local_pref = match &route["localPref"] {
                    Value::Null => None,
                    number => Some(u32_of(number)?),
                };
                Ok(Self {
                    communities: communities(&route["communities"])?,
                    large_communities: strings(&route["largeCommunities"]),
                    local_pref,
                    ..Self::new(text(&route["prefix"])?, text(&route["nextHop"])?)?
                })
            })
            .collect::<Result<_>>()
            .with_context(|| format!("plan: {plan}"))
    }
}

impl Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.prefix, self.next_hop)?;
        for community in self.communities.iter().chain(&self.large_communities) {
            write!(f, " {community}")?;
        }
        match self.local_pref {
            Some(local_pref) => write!(f, " local-pref {local_pref}"),
            None => Ok(()),
        }
    }
}

pub(super) fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts
}

/// The strings of a JSON array, sorted; none if the value is not an array.
pub(super) fn strings(array: &Value) -> Vec<String> {
    let items = array.as_array().map_or(&[][..], Vec::as_slice);
    sorted(items.iter().filter_map(Value::as_str).map(str::to_owned))
}

/// Replaces the names of well-known communities, which ferrolb prints, by their numbers.
fn communities(array: &Value) -> Result<Vec<String>> {
    let numbers = strings(array).into_iter().map(|text| {
        let Community(number) = text.parse().with_context(|| text.clone())?;
        Ok(format!("{}:{}", number >> 16, number & 0xffff))
    });
    let numbers: Result<Vec<String>> = numbers.collect();
    Ok(sorted(numbers?.into_iter()))
}

pub(super) fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("not a string: {value}"))
}

pub(super) fn u32_of(value: &Value) -> Result<u32> {
    value
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .with_context(|| format!("not a 32-bit number: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_plan_returns_the_routes_of_one_peer() {
        let plan = serde_json::json!({"routes": [
            {"node": "node1", "peer": "tor", "prefix": "203.0.113.10/32", "nextHop": "10.99.0.11",
             "communities": ["64700:20", "64700:120", "NO_EXPORT"],
             "largeCommunities": ["64700:1:2"], "localPref": 150},
            {"node": "node1", "peer": "other",
             "prefix": "203.0.113.11/32", "nextHop": "10.99.0.11"},
            {"node": "node2", "peer": "tor", "prefix": "2001:db8::1/128", "nextHop": "fd99::12",
             "communities": [], "largeCommunities": [], "localPref": null},
        ]});
        let expected = BTreeSet::from([
            RouteEntry::new("203.0.113.10/32", "10.99.0.11")
                .unwrap()
                .communities(&["64700:120", "64700:20", "65535:65281"])
                .large_communities(&["64700:1:2"])
                .local_pref(150),
            RouteEntry::new("2001:db8::1/128", "fd99::12").unwrap(),
        ]);
        assert_eq!(RouteEntry::from_plan(&plan, "tor").unwrap(), expected);

        let broken = serde_json::json!({"routes": [{"peer": "tor", "prefix": 7}]});
        let error = RouteEntry::from_plan(&broken, "tor").unwrap_err();
        assert!(format!("{error:#}").contains("not a string: 7"));
    }
}
