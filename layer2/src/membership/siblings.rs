//! Two processes of one node during a rollout: the older one is in charge until it hands over.

use std::time::Duration;

use crate::config::Time;
use crate::status::NodeState;
use crate::wire::hello::Hello;

/// A new process sends nothing on other interfaces in this time, in which an older one answers on
/// the loopback interface.
const LISTENS: Duration = Duration::from_millis(200);

/// What this process knows of another one of its node.
#[derive(Debug, Default)]
pub(crate) struct Siblings {
    /// Since when it listens on the loopback interface.
    since: Option<Time>,
    role: Role,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    /// No other process is known.
    #[default]
    Alone,
    /// An older process is in charge.
    Standby,
    /// A newer process waits. Whether it is ready.
    InCharge(bool),
    /// A newer process took over.
    Superseded,
    /// This process took over from an older one.
    Successor,
}

impl Siblings {
    /// The loopback interface can be used.
    pub(crate) fn listen(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// A hello of another process. `instance`: ours.
    pub(crate) fn receive(&mut self, instance: u64, hello: &Hello) {
        let over = hello.state == NodeState::Leaving && hello.owned == 0;
        self.role = if hello.instance > instance {
            match self.role {
                Role::Superseded => Role::Superseded,
                _ if hello.owned > 0 => Role::Superseded,
                _ => Role::InCharge(hello.state == NodeState::Ready),
            }
        } else {
            match self.role {
                Role::Alone | Role::Standby if !over => Role::Standby,
                _ => Role::Successor,
            }
        };
    }

    /// The other process is silent.
    pub(crate) fn silent(&mut self) {
        self.role = match self.role {
            Role::Standby | Role::Successor => Role::Successor,
            Role::Superseded => Role::Superseded,
            Role::Alone | Role::InCharge(_) => Role::Alone,
        };
    }

    /// This process claimed what the older one handed over.
    pub(crate) fn activate(&mut self) {
        self.role = Role::Successor;
    }

    /// Whether another process is in charge: an older one still, or a newer one already.
    pub(crate) fn is_passive(&self) -> bool {
        matches!(self.role, Role::Standby | Role::Superseded)
    }

    /// Whether a newer process is ready to take over.
    pub(crate) fn has_successor(&self) -> bool {
        self.role == Role::InCharge(true)
    }

    /// Whether this process sends hellos on other interfaces than loopback.
    pub(crate) fn may_send(&self, now: Time) -> bool {
        let listened = self.since.is_none_or(|since| now >= since + LISTENS);
        match self.role {
            Role::Alone => listened,
            Role::Standby | Role::Superseded => false,
            Role::InCharge(_) | Role::Successor => true,
        }
    }
}
