//! The daemon's one loop: changes come in, what they touch is decided anew, and goes out to the BGP engine and into the
//! status of services. It knows no Kubernetes and no BGP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::allocation::{Allocation, Outcomes};
use crate::announcer::Announcer;
use crate::api::{Kind, ObjectName};
use crate::config::{Problem, Severity};
use crate::decide::Reason;
use crate::index::{Index, Touched};
use crate::report::Report;
use crate::saved::Saved;
use crate::source::{Event, Source};

/// A first change goes out at once, those that follow within this time go together.
const TOGETHER: Duration = Duration::from_millis(10);
/// How long a starting announcer waits for the API server before it announces what was saved.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

/// What the loop works on.
#[derive(Debug)]
pub struct Agent {
    /// The kinds that must have been listed once before anything is decided.
    pub kinds: &'static [Kind],
    /// Present in the role of an announcer.
    pub announcer: Option<Announcer>,
    /// Whether to allocate when leading.
    pub allocate: bool,
    /// What was saved before the restart.
    pub saved: Option<Saved>,
    /// Where the rest of the program reads what is going on.
    pub report: watch::Sender<Arc<Report>>,
}

struct Running {
    agent: Agent,
    index: Index,
    allocation: Allocation,
    outcomes: Outcomes,
    leading: bool,
    touched: Touched,
    problems: Vec<Problem>,
    updates: u64,
}

impl Agent {
    /// Runs until the source ends.
    pub async fn run(mut self, source: &mut Source) {
        let mut saved = self.saved.take();
        let mut running = Running::new(self);
        let patience = Instant::now() + PATIENCE;
        let mut handed_over = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = source.events.recv() => match event {
                    Some(event) => running.take_in(event),
                    None => return,
                },
                _ = tick.tick() => {
                    running.tick();
                    continue;
                }
                () = sleep_until(patience), if saved.is_some() => {
                    running.restore(saved.take());
                    continue;
                }
            }
            if handed_over.elapsed() < TOGETHER {
                sleep_until(handed_over + TOGETHER).await;
            }
            loop {
                match source.events.try_recv() {
                    Ok(event) => running.take_in(event),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            if running.index.is_synced(running.agent.kinds) {
                saved = None;
                running.hand_over(source).await;
            }
            handed_over = Instant::now();
        }
    }
}

impl Running {
    fn new(agent: Agent) -> Self {
        Self {
            agent,
            index: Index::default(),
            allocation: Allocation::default(),
            outcomes: Outcomes::default(),
            leading: false,
            touched: Touched::default(),
            problems: Vec::new(),
            updates: 0,
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Change(change) => {
                self.updates += 1;
                let touched = self.index.apply(change);
                self.touched.merge(touched);
            }
            Event::Leading(leading) => {
                tracing::info!(leading, "allocation");
                self.leading = leading;
                self.allocation.forget();
                // Everything is decided anew by whoever begins to lead.
                self.touched.configuration |= leading;
            }
        }
    }

    async fn hand_over(&mut self, source: &Source) {
        let touched = std::mem::take(&mut self.touched);
        let first = self
            .agent
            .announcer
            .as_ref()
            .is_some_and(|announcer| !announcer.handed_over());
        if touched.is_empty() && !first {
            return;
        }
        self.tell_problems();
        // Addresses first: what is announced follows from the status that comes back.
        if self.agent.allocate && self.leading {
            self.allocate(source).await;
        }
        if let Some(announcer) = &mut self.agent.announcer {
            announcer.hand_over(&self.index, &touched);
            if first {
                announcer.save();
            }
        }
        self.publish();
    }

    async fn allocate(&mut self, source: &Source) {
        let (outcomes, writes) = self.allocation.decide(&self.index);
        for (name, outcome) in &outcomes {
            let news = self.outcomes.get(name).and_then(|old| old.reason()) != outcome.reason();
            if let Some(reason) = outcome.reason().filter(|_| news) {
                tracing::warn!(service = %name, reason = reason.code(), "{reason}");
            }
        }
        self.outcomes = outcomes;
        for write in writes {
            tracing::info!(
                service = %write.service,
                addresses = ?write.addresses,
                pool = write.pool.as_deref().unwrap_or_default(),
                "address"
            );
            if source.status.send(write).await.is_err() {
                tracing::warn!("statuses can't be written any more: the source has ended");
            }
        }
    }

    /// Says what is wrong with objects, once.
    fn tell_problems(&mut self) {
        let problems = self.index.problems();
        for problem in problems
            .iter()
            .filter(|problem| !self.problems.contains(problem))
        {
            match problem.severity {
                Severity::Error => tracing::error!(object = %problem.object, "{}", problem.message),
                Severity::Notice => tracing::warn!(object = %problem.object, "{}", problem.message),
            }
        }
        for gone in self
            .problems
            .iter()
            .filter(|problem| !problems.contains(problem))
        {
            tracing::info!(object = %gone.object, "mended: {}", gone.message);
        }
        self.problems = problems;
    }

    fn tick(&mut self) {
        if let Some(announcer) = &mut self.agent.announcer {
            announcer.save();
        }
        self.agent
            .report
            .send_modify(|report| Arc::make_mut(report).alive = Some(Instant::now()));
    }

    fn restore(&mut self, saved: Option<Saved>) {
        if let (Some(announcer), Some(saved)) = (&mut self.agent.announcer, saved) {
            announcer.restore(saved);
        }
    }

    fn publish(&self) {
        let announcer = self.agent.announcer.as_ref();
        let report = Report {
            alive: Some(Instant::now()),
            config: Some(self.index.config().clone()),
            problems: self.problems.clone(),
            handed_over: announcer.is_none_or(Announcer::handed_over),
            announced: announcer
                .map(|announcer| announced(&self.index, announcer))
                .unwrap_or_default(),
            routes: announcer.map(routes).unwrap_or_default(),
            held: held(&self.index),
            updates: self.updates,
        };
        self.agent.report.send_replace(Arc::new(report));
    }
}

fn routes(announcer: &Announcer) -> BTreeMap<String, usize> {
    let mut routes = BTreeMap::new();
    for (peer, _) in announcer.desired().routes().keys() {
        *routes.entry(peer.clone()).or_default() += 1;
    }
    routes
}

fn held(index: &Index) -> BTreeSet<IpAddr> {
    let ours = index.services().filter(|service| service.is_ours());
    ours.flat_map(|service| service.addresses().iter().copied())
        .collect()
}

/// Services that go to at least one peer, and their addresses.
fn announced(index: &Index, announcer: &Announcer) -> Vec<(ObjectName, Vec<IpAddr>)> {
    let decisions = announcer.desired().decisions().iter();
    decisions
        .filter(|(_, decision)| {
            decision
                .verdicts
                .iter()
                .any(|verdict| verdict.reason == Reason::Announced)
        })
        .filter_map(|(name, _)| Some((name.clone(), index.service(name)?.addresses().to_vec())))
        .collect()
}
