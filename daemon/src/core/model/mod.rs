//! The model: what decisions need of an object of the Kubernetes API, and nothing else.
//!
//! A full Service costs about 18 KB in memory, its facts about 200 bytes. Facts are made once, when
//! the object arrives.

pub(crate) mod annotations;
pub(crate) mod drain;
mod endpoint_slice;
mod misspelt;
mod node;
pub(crate) mod node_weight;
mod service;

use std::collections::BTreeMap;

use ipnet::IpNet;

pub(crate) use self::endpoint_slice::Slice;
pub(crate) use self::node::Node;
pub(crate) use self::service::{Service, TrafficPolicy};
use crate::core::api::FieldError;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Networks as an API server has validated them; what is none counts for nothing.
pub(crate) fn networks<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpNet> {
    let mut networks: Vec<IpNet> = texts.filter_map(|text| text.parse().ok()).collect();
    networks.sort();
    networks.dedup();
    networks
}

fn unknown(path: &str, value: &str, expected: &str) -> FieldError {
    FieldError::new(path, format!("{value:?} is not {expected}"))
}
