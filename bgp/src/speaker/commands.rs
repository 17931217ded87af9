//! The owner's way to the engine: a bounded channel.
//!
//! When it is full the owner waits, on its own thread. That always ends: the engine takes commands in
//! each of its turns and never waits for its owner, since events are dropped rather than waited with
//! ([`events`](super::events)); and an engine that has ended takes none.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Commands that the engine has not taken yet.
pub(super) const COMMANDS_MAX: usize = 256;

/// Sends a command. Waits while there is no room; without a receiver it is dropped.
pub(super) fn send<T>(sender: &mpsc::Sender<T>, command: T) {
    if let Err(TrySendError::Full(command)) = sender.try_send(command) {
        // Within a task of tokio's, its budget would end the wait's progress for ever.
        let sent = wait(tokio::task::unconstrained(sender.send(command)));
        drop(sent);
    }
}

/// Runs a future on this thread, be it inside a runtime or not.
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

    /// Inside a runtime too, as the daemon does it.
    #[tokio::test]
    async fn who_sends_more_than_fits_waits_until_there_is_room_and_nothing_is_lost() {
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
            // One is on its way between the channel and the count.
            assert!(waiting <= COMMANDS_MAX + 1, "{waiting}");
        }
        drop(sender);
        let all = reader.join().expect("it reads to the end");
        assert_eq!(all, (0..many).collect::<Vec<_>>());
    }

    #[test]
    fn who_waits_goes_on_when_the_engine_ends() {
        let (sender, receiver) = mpsc::channel(1);
        send(&sender, 1);
        let waits = thread::spawn(move || send(&sender, 2));
        drop(receiver);
        waits.join().expect("it returns");
    }
}
