//! The condition of a Service that says whether some node announces it.

use std::sync::Arc;

use crate::core::api::ObjectName;
use crate::core::api::core::ServiceCondition;

/// The type of the condition in `status.conditions`.
pub(crate) const ANNOUNCED_CONDITION: &str = "ferrolb.io/Announced";

/// What the condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedCondition {
    /// Whether some node announces the Service.
    pub announced: bool,
    /// The code of the reason.
    pub reason: String,
    /// The reason in words, with its remedy.
    pub message: String,
    /// When `announced` last changed, as the Service has it. Empty: now.
    pub since: String,
}

impl AnnouncedCondition {
    /// The one among the conditions of a Service.
    pub(super) fn among(conditions: &[ServiceCondition]) -> Option<Box<Self>> {
        let mut conditions = conditions.iter();
        let found = conditions.find(|condition| condition.r#type == ANNOUNCED_CONDITION)?;
        Some(Box::new(Self {
            announced: found.status == "True",
            reason: found.reason.clone(),
            message: found.message.clone(),
            since: found.last_transition_time.clone(),
        }))
    }

    /// Whether both say the same, whenever it began.
    pub(crate) fn says_same(&self, other: &Self) -> bool {
        (self.announced, &self.reason, &self.message)
            == (other.announced, &other.reason, &other.message)
    }
}

/// A write of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConditionWrite {
    /// The Service.
    pub service: Arc<ObjectName>,
    /// The version of the Service that it was decided for. Another one is not written to.
    pub resource_version: String,
    /// The condition. None removes it.
    pub condition: Option<AnnouncedCondition>,
}
