//! The condition in the status of ferrolb's own kinds that says whether ferrolb uses an object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of the condition.
pub(crate) const ACCEPTED: &str = "Accepted";

/// What ferrolb writes about the object.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Conditions {
    /// What ferrolb says about the object. An object that was never refused has none.
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    /// Accepted: whether ferrolb uses the object as it is.
    pub r#type: String,
    /// True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// Invalid, NameInUse, Overlap or Accepted.
    pub reason: String,
    /// What is wrong, and the remedy.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: String,
}

impl Conditions {
    /// The one that says whether ferrolb uses the object.
    pub(crate) fn accepted(self) -> Option<Condition> {
        let mut conditions = self.conditions.into_iter();
        conditions.find(|condition| condition.r#type == ACCEPTED)
    }
}

impl Condition {
    /// Whether both say the same, whenever it began.
    pub(crate) fn says_same(&self, other: &Self) -> bool {
        (&self.status, &self.reason, &self.message)
            == (&other.status, &other.reason, &other.message)
    }
}
