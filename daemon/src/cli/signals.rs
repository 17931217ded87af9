//! Signals that request a shutdown.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, sent by the kubelet, and SIGINT, sent by a terminal. Keeps signals that arrive after
/// its creation until they are read.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Starts to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
