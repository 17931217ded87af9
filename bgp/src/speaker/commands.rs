//! Sends commands from the caller to the BGP thread through a bounded channel.
//!
//! If the channel is full, the caller blocks. The wait always ends: the BGP thread reads commands
//! in each turn and never waits for the caller, since it drops events instead
//! ([`events`](super::events)); and if it has ended, the command is dropped.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Depth of the channel.
pub(super) const COMMANDS_MAX: usize = 256;

/// Sends a command. Blocks while the channel is full; drops the command if there is no receiver.
pub(super) fn send<T>(sender: &mpsc::Sender<T>, command: T) {
    if let Err(TrySendError::Full(command)) = sender.try_send(command) {
        // Inside a tokio task, an exhausted task budget would keep `send` pending forever.
        let sent = wait(tokio::task::unconstrained(sender.send(command)));
        drop(sent);
    }
}

/// Runs a future on this thread, inside or outside a runtime.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Inside a runtime, as in the daemon.
    #[tokio::test]
    async fn send_blocks_while_the_channel_is_full_and_loses_no_command() {
        let (sender, mut receiver) = mpsc::channel(COMMANDS_MAX);
        let taken = Arc::new(AtomicUsize::new(0));
        let many = 4 * COMMANDS_MAX;
        let reader = {
            let taken = taken.clone();
            thread::spawn(move || {
                let mut all = Vec::new();
                while let Some(number) = receiver.blocking_recv() {
                    taken.fetch_add(1, Ordering::SeqCst);
                    all.push(number);
                }
                all
            })
        };
        for number in 0..many {
            send(&sender, number);
            let waiting = number + 1 - taken.load(Ordering::SeqCst).min(number + 1);
            // One command may be received but not yet counted.
            assert!(waiting <= COMMANDS_MAX + 1, "{waiting}");
        }
        drop(sender);
        let all = reader.join().expect("reads all commands");
        assert_eq!(all, (0..many).collect::<Vec<_>>());
    }

    #[test]
    fn send_returns_when_the_receiver_is_dropped() {
        let (sender, receiver) = mpsc::channel(1);
        send(&sender, 1);
        let blocked = thread::spawn(move || send(&sender, 2));
        drop(receiver);
        blocked.join().expect("returns");
    }
}
