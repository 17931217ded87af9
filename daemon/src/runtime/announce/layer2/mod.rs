//! Announces addresses by layer 2: runs the engine while there is an L2Advertisement, and passes
//! it keys, settings and addresses.
//!
//! The engine has a thread of its own and doesn't depend on the control loop: after a panic of the
//! loop it goes on answering with what it was given last.

mod cpu_weight;
pub(crate) mod engine;
pub(crate) mod exclude_file;
mod reporter;
pub(crate) mod service_status;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferrolb_layer2::config::{Command, Identity, Keys, Settings};
use ferrolb_layer2::status::Event;
use tokio::sync::{mpsc, watch};

use self::engine::{EngineState, Handle, Layer2Engine, Options};
use self::reporter::Reporter;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::excluded_interfaces::ExcludedInterfaces;
use crate::core::config::{Config, Problem, Severity};
use crate::core::decide::hello_keys::HelloKeys;
use crate::core::decide::layer2::addresses::{AddressChange, Layer2Addresses};
use crate::core::decide::layer2::settings;
use crate::core::index::{Dirty, Index};
use crate::runtime::source::ApiWriteSender;
use crate::runtime::status::Layer2Services;

/// Delay before the start of the engine is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// How long the engine may run without a key before that is a problem: the allocator creates one
/// within seconds.
const KEY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the services of an address are known after no node announces it any more: until the
/// engine has reported that it withdrew the address.
const WITHDRAWAL_TIME: Duration = Duration::from_secs(5);

const NO_KEY: &str = "no address is announced by layer 2, since no Secret has a key to \
    authenticate hellos: does the allocator run, and may it create Secrets (deploy/manifests/\
    2-rbac.yaml)? Or create the Secret memberlist with the key secretkey. With --manifests, put \
    it into the folder";

/// Starts the engine.
pub(crate) type Spawn = fn(Options) -> io::Result<(Handle, mpsc::UnboundedReceiver<Event>)>;

/// What the engine does, as the announcer last saw it.
#[derive(Debug)]
enum Phase {
    /// It doesn't run, and is not started before this time.
    Stopped(Option<Instant>),
    /// It runs since then.
    Running(Handle, Instant),
    /// It hands its addresses over and ends.
    Leaving,
}

/// Announces addresses by layer 2.
#[derive(Debug)]
pub struct Layer2Announcer {
    node: Arc<str>,
    excluded: ExcludedInterfaces,
    spawn: Spawn,
    state: watch::Sender<EngineState>,
    phase: Phase,
    addresses: Layer2Addresses,
    /// The services of each address, also for other threads.
    services: Layer2Services,
    /// Addresses that no node announces any more, with the time to forget their services.
    removed: BTreeMap<IpAddr, Instant>,
    writes: ApiWriteSender,
    keys: HelloKeys,
    /// What the running engine has.
    sent: Sent,
    ready_nodes: Option<BTreeSet<Arc<str>>>,
    /// The instance of the last engine.
    instance: u64,
    problem: Option<String>,
    initialized: bool,
}

/// What was passed to the running engine.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    settings: Settings,
    keys: Keys,
    ready_nodes: Option<BTreeSet<Arc<str>>>,
}

impl Layer2Announcer {
    /// An announcer whose engine doesn't run yet, and the holder of its engine.
    pub(crate) fn new(
        node: &str,
        excluded: ExcludedInterfaces,
        writes: ApiWriteSender,
        spawn: Spawn,
    ) -> (Self, Layer2Engine) {
        let (state, engine) = Layer2Engine::new();
        let announcer = Self {
            node: node.into(),
            excluded,
            spawn,
            state,
            phase: Phase::Stopped(None),
            addresses: Layer2Addresses::new(node),
            services: Layer2Services::default(),
            removed: BTreeMap::new(),
            writes,
            keys: HelloKeys::default(),
            sent: Sent {
                settings: settings(&Config::default(), 0),
                keys: Keys::default(),
                ready_nodes: None,
            },
            ready_nodes: None,
            instance: 0,
            problem: None,
            initialized: false,
        };
        (announcer, engine)
    }

    /// The addresses that are announced by layer 2, and the decisions behind them.
    pub(crate) const fn addresses(&self) -> &Layer2Addresses {
        &self.addresses
    }

    /// The name of this node.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Whether the first addresses were passed to the engine, or no engine is needed.
    pub(crate) const fn initialized(&self) -> bool {
        self.initialized
    }

    /// Whether this node can own addresses if layer 2 is needed. An older process of the node can
    /// hand over to this one only then.
    pub(crate) fn is_ready(&self) -> bool {
        let has_key = match self.phase {
            Phase::Running(..) => self.sent.keys.current.is_some(),
            Phase::Stopped(_) | Phase::Leaving => true,
        };
        self.initialized && self.problem.is_none() && has_key
    }

    /// Why addresses are not announced by layer 2, if that is so.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let message = self.problem.clone()?;
        Some(Problem {
            object: ObjectKey::new(Kind::L2Advertisement, ObjectName::new("", "*")),
            severity: Severity::Error,
            message,
        })
    }

    /// Sets the nodes whose layer 2 process is ready according to the API server.
    pub(crate) fn set_ready_nodes(&mut self, nodes: Option<BTreeSet<Arc<str>>>) {
        self.ready_nodes = nodes;
    }

    /// Shows why nothing is announced yet, until that is over. Has no effect on a started engine.
    pub(crate) fn delay(&mut self, why: Option<String>) {
        if self.state.borrow().is_running() {
            return;
        }
        let state = why.map_or(EngineState::Idle, |why| {
            EngineState::Refused(why.as_str().into())
        });
        self.state.send_replace(state);
    }

    /// The services of each address that some node announces by layer 2.
    pub(crate) const fn services(&self) -> &Layer2Services {
        &self.services
    }

    /// Applies what a change affects. Returns whether [`Self::problem`] changed.
    pub(crate) fn update(&mut self, now: Instant, index: &Index, dirty: &Dirty) -> bool {
        let changes = if self.initialized {
            self.addresses.update(index, dirty)
        } else {
            self.addresses.update_all(index)
        };
        self.update_services(now, index, dirty, &changes);
        // An engine that starts now gets all addresses.
        if let Phase::Running(engine, _) = &self.phase {
            for (address, spec) in changes {
                engine.send(match spec {
                    Some(spec) => Command::SetAddress(address, spec),
                    None => Command::RemoveAddress(address),
                });
            }
        }
        self.initialized = true;
        self.follow(now, index)
    }

    /// Updates the services of the addresses that a change may concern.
    fn update_services(
        &mut self,
        now: Instant,
        index: &Index,
        dirty: &Dirty,
        changes: &[AddressChange],
    ) {
        for (address, spec) in changes {
            match spec {
                Some(_) => self.removed.remove(address),
                None => self.removed.insert(*address, now + WITHDRAWAL_TIME),
            };
        }
        let changed = changes.iter().map(|(address, _)| *address);
        if dirty.configuration {
            let all = self.addresses.addresses().keys().copied();
            self.services
                .update(index, &self.addresses, changed.chain(all));
            return;
        }
        let dirty = dirty.services.iter().filter_map(|name| index.service(name));
        let dirty = dirty.flat_map(|service| service.addresses().iter().copied());
        self.services
            .update(index, &self.addresses, changed.chain(dirty));
    }

    /// Starts or ends the engine, and passes keys and settings that changed. Call it after changes
    /// and every second. Returns whether [`Self::problem`] changed.
    pub(crate) fn follow(&mut self, now: Instant, index: &Index) -> bool {
        let before = self.problem.clone();
        for (address, _) in self.removed.extract_if(.., |_, until| *until <= now) {
            self.services.remove(address);
        }
        self.keys.update(now, &index.config().hello_secrets);
        let wanted = !index.config().layer2_advertisements.is_empty();
        self.see_end(now, wanted);
        match &self.phase {
            Phase::Running(engine, _) if !wanted => {
                tracing::info!("no L2Advertisement is left: handing over all addresses");
                engine.send(Command::Leave { restarting: false });
                self.phase = Phase::Leaving;
            }
            Phase::Stopped(not_before) if wanted && not_before.is_none_or(|time| time <= now) => {
                self.start(now, index);
            }
            _ => {}
        }
        if !wanted && self.problem.take().is_some() {
            self.state.send_if_modified(|state| {
                let refused = matches!(state, EngineState::Refused(_));
                if refused {
                    *state = EngineState::Idle;
                }
                refused
            });
        }
        self.send_changes(now, index);
        before != self.problem
    }

    /// Notices that the engine has ended.
    fn see_end(&mut self, now: Instant, wanted: bool) {
        if matches!(self.phase, Phase::Stopped(_)) || self.state.borrow().is_running() {
            return;
        }
        let mut retry_at = None;
        if matches!(self.phase, Phase::Running(..)) && wanted {
            let why = "the layer 2 engine ended unexpectedly, other nodes take over: it is started \
                       again within 30 s (please report this bug with the lines before)";
            self.refuse(why.to_owned());
            retry_at = Some(now + RETRY_INTERVAL);
        }
        self.phase = Phase::Stopped(retry_at);
    }

    fn refuse(&mut self, why: String) {
        self.state
            .send_replace(EngineState::Refused(why.as_str().into()));
        self.problem = Some(why);
    }

    fn start(&mut self, now: Instant, index: &Index) {
        // Each engine is a new process to its peers. The clock may have been set back.
        self.instance = wall_clock_ms().max(self.instance + 1);
        let excluded = self.excluded.clone();
        let settings = settings(index.config(), index.cluster());
        let options = Options {
            identity: Identity {
                node: self.node.clone(),
                instance: self.instance,
                seed: fastrand::u64(..),
            },
            settings: settings.clone(),
            excluded: Box::new(move |name| excluded.excludes(name)),
        };
        match (self.spawn)(options) {
            Ok((engine, events)) => {
                self.problem = None;
                self.sent = Sent {
                    settings,
                    keys: Keys::default(),
                    ready_nodes: None,
                };
                self.state
                    .send_replace(EngineState::Running(engine.clone()));
                let reporter = Reporter {
                    node: self.node.clone(),
                    state: self.state.clone(),
                    services: self.services.clone(),
                    writes: self.writes.clone(),
                };
                tokio::spawn(reporter.run(events));
                tracing::info!("layer 2 started: there is an L2Advertisement");
                for (address, spec) in self.addresses.addresses() {
                    engine.send(Command::SetAddress(*address, spec.clone()));
                }
                engine.send(Command::AddressesComplete);
                self.phase = Phase::Running(engine, now);
            }
            Err(error) => {
                self.refuse(refused(&error));
                self.phase = Phase::Stopped(Some(now + RETRY_INTERVAL));
            }
        }
    }

    /// Passes settings, keys and ready nodes that changed.
    fn send_changes(&mut self, now: Instant, index: &Index) {
        let Phase::Running(engine, since) = &self.phase else {
            return;
        };
        let new = Sent {
            settings: settings(index.config(), index.cluster()),
            keys: self.keys.keys(),
            ready_nodes: self.ready_nodes.clone(),
        };
        if new.settings != self.sent.settings {
            engine.send(Command::Settings(new.settings.clone()));
        }
        if new.ready_nodes != self.sent.ready_nodes {
            engine.send(Command::ReadyNodes(new.ready_nodes.clone()));
        }
        if new.keys != self.sent.keys {
            if new.keys.current != self.sent.keys.current && self.sent.keys.current.is_some() {
                tracing::info!("hellos are now authenticated with the new key");
            }
            engine.send(Command::Keys(new.keys.clone()));
        }
        let has_key = new.keys.current.is_some();
        self.sent = new;
        if has_key {
            self.problem = None;
        } else if now >= *since + KEY_TIMEOUT {
            self.problem = Some(NO_KEY.to_owned());
        }
    }
}

/// Why the engine can't start. The error of packet sockets names its remedy.
fn refused(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::Unsupported {
        return "this ferrolb was built without layer 2, so no address is announced by it: use a \
            build with the feature layer2, or delete the L2Advertisements"
            .to_owned();
    }
    format!(
        "can't start layer 2, so no address is announced by it: {error}; retrying every {} s",
        RETRY_INTERVAL.as_secs()
    )
}

fn wall_clock_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
