//! The gate of a node: its first announcements wait until the node's service proxy answers that it
//! delivers, and until MetalLB's speaker is gone from the node. Once open it stays open: nothing
//! that is announced is ever withdrawn because of it.
//!
//! Pure, except for [`probe`]: answers and the time go in, delays come out.

pub(crate) mod health_url;
pub(crate) mod probe;
mod services;

use std::collections::BTreeSet;

use ipnet::IpNet;
use tokio::sync::mpsc;

use self::health_url::HealthUrl;
use self::probe::{Answer, Prober};
pub(crate) use self::services::{Followed, ServiceDelays};
use crate::core::decide::Reason;

/// What a starting process must know before it announces.
#[derive(Debug)]
pub(crate) struct GateOptions {
    /// Whether a source reports if MetalLB's speaker runs on the node.
    pub asks_for_speaker: bool,
    /// Where the node's service proxy answers. None: don't wait for it.
    pub proxy: Option<HealthUrl>,
    /// The prefixes that the process before announced during this boot of the host. If there are
    /// any, the first announcement was made, and the gate is open.
    pub announced: BTreeSet<IpNet>,
}

/// The gate of a node.
#[derive(Debug)]
pub struct Gate {
    /// None: no source reports it.
    speaker: Option<Speaker>,
    proxy: Option<Proxy>,
    open: bool,
    services: ServiceDelays,
    prober: Option<Prober>,
    answers: Option<mpsc::UnboundedReceiver<Answer>>,
}

/// What is known about MetalLB's speaker on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Speaker {
    Unknown,
    Absent,
    /// Its Pod.
    Runs(String),
}

/// What is known about the node's service proxy, until it was ready once.
#[derive(Debug)]
struct Proxy {
    url: HealthUrl,
    /// Its last answer, if it was asked.
    last: Option<String>,
    ready: bool,
}

/// Why the node announces nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// The answers are not there yet.
    Asking,
    /// For this reason, with its subject.
    For(Reason, String),
}

impl Gate {
    /// A gate that is always open.
    pub fn open() -> Self {
        Self {
            speaker: None,
            proxy: None,
            open: true,
            services: ServiceDelays::default(),
            prober: None,
            answers: None,
        }
    }

    /// A gate that opens when these conditions are met. Asks the service proxy from now on. Needs a
    /// tokio runtime.
    pub(crate) fn new(options: GateOptions) -> Self {
        let GateOptions {
            asks_for_speaker,
            proxy,
            announced,
        } = options;
        let mut gate = Self {
            speaker: asks_for_speaker.then_some(Speaker::Unknown),
            open: !announced.is_empty(),
            services: ServiceDelays::announced_before(announced),
            ..Self::open()
        };
        if let Some(url) = proxy {
            let (prober, answers) = Prober::start();
            if !gate.open {
                prober.ask_proxy(url.clone());
            }
            gate.proxy = Some(Proxy {
                url,
                last: None,
                ready: false,
            });
            gate.prober = Some(prober);
            gate.answers = Some(answers);
        }
        gate
    }

    /// Takes what receives the answers of probes.
    pub(crate) const fn take_answers(&mut self) -> Option<mpsc::UnboundedReceiver<Answer>> {
        self.answers.take()
    }

    /// Sends probes about services. None: services wait for nothing.
    pub(crate) const fn prober(&self) -> Option<&Prober> {
        self.prober.as_ref()
    }

    /// The services whose first announcement waits for the service proxy.
    pub(crate) const fn services(&mut self) -> &mut ServiceDelays {
        &mut self.services
    }

    /// Handles an answer of the service proxy.
    pub(crate) fn set_proxy(&mut self, answer: Result<(), String>) {
        if let Some(proxy) = &mut self.proxy {
            proxy.ready |= answer.is_ok();
            proxy.last = answer.err();
        }
    }

    /// Handles what the source sees of MetalLB's speaker: its Pod, if it runs on the node.
    pub(crate) fn set_speaker(&mut self, pod: Option<String>) {
        self.speaker = Some(pod.map_or(Speaker::Absent, Speaker::Runs));
    }

    /// The Pod of MetalLB's speaker on the node.
    pub(crate) fn speaker(&self) -> Option<&str> {
        match &self.speaker {
            Some(Speaker::Runs(pod)) => Some(pod),
            Some(Speaker::Absent | Speaker::Unknown) | None => None,
        }
    }

    /// Why nothing is announced yet, if that is so. The gate opens for good when there is no
    /// reason.
    pub(crate) fn delay(&mut self) -> Option<Delay> {
        let delay = if self.open { None } else { self.reason() };
        self.open = delay.is_none();
        delay
    }

    fn reason(&self) -> Option<Delay> {
        let mut asking = false;
        match &self.speaker {
            Some(Speaker::Runs(pod)) => {
                return Some(Delay::For(Reason::MetallbSpeaker, pod.clone()));
            }
            Some(Speaker::Unknown) => asking = true,
            Some(Speaker::Absent) | None => {}
        }
        let proxy = self.proxy.as_ref().filter(|proxy| !proxy.ready);
        match proxy.map(|proxy| (&proxy.url, &proxy.last)) {
            Some((url, Some(last))) => {
                let detail = format!("{url}: {last}");
                return Some(Delay::For(Reason::ServiceProxyNotReady, detail));
            }
            Some((_, None)) => asking = true,
            None => {}
        }
        asking.then_some(Delay::Asking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(proxy: bool, announced: &[&str]) -> Gate {
        let announced = announced
            .iter()
            .map(|prefix| prefix.parse().expect("a prefix"));
        let mut gate = Gate {
            speaker: Some(Speaker::Unknown),
            open: announced.len() > 0,
            services: ServiceDelays::announced_before(announced.collect()),
            ..Gate::open()
        };
        let url: HealthUrl = "http://127.0.0.1:10256/livez".parse().expect("a URL");
        gate.proxy = proxy.then_some(Proxy {
            url,
            last: None,
            ready: false,
        });
        gate
    }

    fn delayed_for(reason: Reason, detail: &str) -> Option<Delay> {
        Some(Delay::For(reason, detail.to_owned()))
    }

    #[test]
    fn the_gate_opens_when_the_speaker_is_gone_and_stays_open_when_one_comes_back() {
        let mut gate = gate(false, &[]);
        assert_eq!(gate.delay(), Some(Delay::Asking));
        gate.set_speaker(Some("metallb-system/speaker-x".to_owned()));
        let delayed = delayed_for(Reason::MetallbSpeaker, "metallb-system/speaker-x");
        assert_eq!(gate.delay(), delayed);
        gate.set_speaker(None);
        assert_eq!((gate.delay(), gate.speaker()), (None, None));
        gate.set_speaker(Some("metallb-system/speaker-y".to_owned()));
        assert_eq!(gate.delay(), None, "what is announced stays");
        assert_eq!(gate.speaker(), Some("metallb-system/speaker-y"));
    }

    #[test]
    fn the_gate_opens_when_the_proxy_was_ready_once_and_never_closes() {
        let mut gate = gate(true, &[]);
        gate.set_speaker(None);
        assert_eq!(gate.delay(), Some(Delay::Asking));
        gate.set_proxy(Err("answers 503".to_owned()));
        let detail = "http://127.0.0.1:10256/livez: answers 503";
        assert_eq!(
            gate.delay(),
            delayed_for(Reason::ServiceProxyNotReady, detail)
        );
        gate.set_proxy(Ok(()));
        assert_eq!(gate.delay(), None);
        gate.set_proxy(Err("connection refused".to_owned()));
        assert_eq!(gate.delay(), None, "a dead proxy withdraws nothing");
    }

    #[test]
    fn both_conditions_must_be_met() {
        let mut gate = gate(true, &[]);
        gate.set_proxy(Ok(()));
        assert_eq!(
            gate.delay(),
            Some(Delay::Asking),
            "the speaker is not known"
        );
        gate.set_speaker(Some("ns/speaker".to_owned()));
        assert!(matches!(
            gate.delay(),
            Some(Delay::For(Reason::MetallbSpeaker, _))
        ));
    }

    #[test]
    fn a_restarted_process_of_a_node_that_announced_is_not_held() {
        let mut gate = gate(true, &["192.0.2.1/32"]);
        gate.set_speaker(Some("ns/speaker".to_owned()));
        gate.set_proxy(Err("connection refused".to_owned()));
        assert_eq!(gate.delay(), None);
    }
}
