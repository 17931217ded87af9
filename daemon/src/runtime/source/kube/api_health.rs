//! Whether the API server is there, said once when it goes and once when it comes back.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

/// No answer to a probe in this time is none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Probes are never further apart, so that changes flow soon after an outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What several watches know together about the API server. While it is away one probe knocks, not every watch.
#[derive(Debug)]
pub(super) struct ApiHealth {
    answers: watch::Sender<bool>,
}

impl ApiHealth {
    /// The API server is believed to answer until a watch finds out that it does not.
    pub(super) fn new() -> Self {
        Self {
            answers: watch::Sender::new(true),
        }
    }

    /// A watch got no answer at all.
    pub(super) fn lost(&self, watch: &'static str, cause: &str) {
        if self
            .answers
            .send_if_modified(|answers| std::mem::replace(answers, false))
        {
            tracing::warn!(
                watch,
                cause,
                "the API server does not answer: what is known stays in force; trying again"
            );
        }
    }

    /// Waits until the API server answers.
    pub(super) async fn returned(&self) {
        // The sender is ours, so it can't be gone.
        _ = self.answers.subscribe().wait_for(|answers| *answers).await;
    }

    /// Knocks whenever the API server is away. Never ends.
    pub(super) async fn probe(self: Arc<Self>, client: Client) {
        let mut answers = self.answers.subscribe();
        loop {
            _ = answers.wait_for(|answers| !*answers).await;
            let mut delays = Delays::new();
            loop {
                tokio::time::sleep(delays.next().min(LONGEST_PAUSE)).await;
                let probe = tokio::time::timeout(PROBE_TIMEOUT, client.apiserver_version());
                // "No" is an answer too.
                if let Ok(Ok(_) | Err(kube::Error::Api(_))) = probe.await {
                    break;
                }
            }
            tracing::info!("the API server answers again");
            self.answers.send_replace(true);
        }
    }
}

/// Delays between attempts: doubling, up to a limit, and each a little random so that a fleet does not knock as one.
#[derive(Debug)]
pub(super) struct Delays {
    next: Duration,
    random: RandomState,
    count: u32,
}

impl Delays {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_secs(8);

    /// Begins with the shortest.
    pub(super) fn new() -> Self {
        Self {
            next: Self::FIRST,
            random: RandomState::new(),
            count: 0,
        }
    }

    /// Something worked: the next failure waits the shortest time again.
    pub(super) fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// How long to wait now: between half and all of the current step.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(Self::LAST);
        self.count = self.count.wrapping_add(1);
        let chance = u32::from(self.random.hash_one(self.count).to_le_bytes()[0]);
        step / 2 + step / 512 * chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_the_api_server_goes_on_when_it_answers() {
        let reach = ApiHealth::new();
        reach.returned().await;
        reach.lost("Service", "connection refused");
        reach.lost("Node", "connection refused");
        let waits = tokio::time::timeout(Duration::from_millis(20), reach.returned());
        assert!(waits.await.is_err());
        reach.answers.send_replace(true);
        reach.returned().await;
    }

    #[test]
    fn delays_grow_to_a_limit_and_start_over() {
        let mut delays = Delays::new();
        let waited: Vec<Duration> = (0..20).map(|_| delays.next()).collect();
        assert!(waited[0] >= Delays::FIRST / 2 && waited[0] <= Delays::FIRST);
        assert!(
            waited[10..]
                .iter()
                .all(|wait| *wait >= Delays::LAST / 2 && *wait <= Delays::LAST)
        );
        delays.reset();
        assert!(delays.next() <= Delays::FIRST);
    }
}
