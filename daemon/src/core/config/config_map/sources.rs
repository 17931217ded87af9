//! Which object of the cluster means an object that the cluster does not have.

use std::collections::BTreeMap;

use super::mistake::shown;
use super::source::Source;
use crate::core::api::ObjectKey;
use crate::core::config::Problem;

/// The ConfigMaps and AddressPools that objects come from, and where in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(BTreeMap<ObjectKey, (ObjectKey, Origin)>);

/// A place in an object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core::config) enum Origin {
    /// In the text of a ConfigMap.
    ConfigMap(Source),
    /// The field of an AddressPool that has the fields of `spec`, such as
    /// `spec.bgpAdvertisements[0]`.
    AddressPool(String),
}

impl Sources {
    /// Notes where an object comes from.
    pub(in crate::core::config) fn add(
        &mut self,
        object: ObjectKey,
        origin: ObjectKey,
        place: Origin,
    ) {
        self.0.insert(object, (origin, place));
    }

    /// The object of the cluster that means this one: itself, or a ConfigMap or AddressPool.
    pub(crate) fn origin<'a>(&'a self, object: &'a ObjectKey) -> &'a ObjectKey {
        self.0.get(object).map_or(object, |(origin, _)| origin)
    }

    /// The problem with the name and the place of the object that means this one, if its object is
    /// not in the cluster.
    pub(crate) fn resolve(&self, problem: Problem) -> Problem {
        let Some((origin, place)) = self.0.get(&problem.object) else {
            return problem;
        };
        let is_path = |path: &str| path.starts_with("spec") && !path.contains(' ');
        let parts = problem.message.split_once(": ");
        let (path, message) = parts
            .filter(|(path, _)| is_path(path))
            .unwrap_or(("", &problem.message));
        let message = match place {
            Origin::ConfigMap(source) => shown(&[source.mistake(path, message)]),
            Origin::AddressPool(field) => match path.strip_prefix("spec") {
                Some(rest) => format!("{field}{rest}: {message}"),
                None => message.to_owned(),
            },
        };
        Problem {
            object: origin.clone(),
            message,
            ..problem
        }
    }
}
