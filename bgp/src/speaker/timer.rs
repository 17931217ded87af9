//! The timer of a driver: waits for the next deadline of its state machine.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Default)]
pub(super) struct Timer(Option<(Instant, Pin<Box<Sleep>>)>);

impl Timer {
    /// Sets the deadline, or clears it.
    pub(super) fn set(&mut self, deadline: Option<Instant>) {
        if deadline != self.0.as_ref().map(|(at, _)| *at) {
            self.0 = deadline.map(|at| (at, Box::pin(sleep_until(at))));
        }
    }

    /// Whether the deadline is reached. It is then cleared.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let sleep = self.0.as_mut().map(|(_, sleep)| sleep.as_mut());
        let due = sleep.is_some_and(|sleep| sleep.poll(cx).is_ready());
        if due {
            self.0 = None;
        }
        due
    }
}
