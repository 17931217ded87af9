//! ferrolb: load-balancer addresses for bare-metal Kubernetes.
//!
//! * `core` decides: pure functions and data, without tokio, kube or a clock.
//! * `runtime` does what was decided: the control loop, its sources and sessions.
//! * [`cli`] is the command line.
//!
//! Each of them may use those before it. docs/ARCHITECTURE.md has the picture.

pub mod cli;
mod core;
mod runtime;

/// What the tests in `tests/` use of the library. Nothing else does.
#[doc(hidden)]
pub mod testing {
    pub use crate::core::api::{Kind, RawObject};
    pub use crate::core::config::crd::{metallb_yaml as metallb_crds, yaml as crds};
    pub use crate::core::decide::Reason;
    pub use crate::core::decide::owner_reason::OWNER_TEXTS;
    pub use crate::core::index::change::Change;
    pub use crate::core::index::{Dirty, Index};
    pub use crate::runtime::announce::announcer::Announcer;
    pub use crate::runtime::announce::discard::Discards;
    pub use crate::runtime::announce::state_file::{StateDir, StateWriter};
    pub use crate::runtime::control_loop::ControlLoop;
    pub use crate::runtime::gate::Gate;
    pub use crate::runtime::panicked::{Panicked, catch as catch_panic, restore};
    pub use crate::runtime::questions::Questions;
    pub use crate::runtime::serve::metrics::{describe as metrics, render as render_metrics};
    pub use crate::runtime::source::{Event, SessionChannels, Source, api_writes, status_writes};
    pub use crate::runtime::status::{DaemonStatus, Layer2Services};
    pub use crate::runtime::telemetry::log_panic;
}
