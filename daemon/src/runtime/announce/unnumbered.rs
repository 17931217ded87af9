//! Unnumbered peers: finds the routers at the other end of their interfaces, and passes them to the
//! BGP engine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::LinkState;
use ferrolb_bgp::speaker::Handle;

#[cfg(not(feature = "layer2"))]
use self::compiled_out::{Routers, start};
#[cfg(feature = "layer2")]
use self::thread::{Routers, start};

/// The search for routers. Its thread runs from the first unnumbered peer on.
#[derive(Debug)]
pub(super) struct Unnumbered {
    routers: Option<Routers>,
    watched: BTreeSet<Box<str>>,
}

impl Unnumbered {
    pub(super) const fn new() -> Self {
        Self {
            routers: None,
            watched: BTreeSet::new(),
        }
    }

    /// Finds the routers of these sessions from now on, and no others.
    pub(super) fn follow(&mut self, engine: &Handle, sessions: &BTreeMap<String, PeerConfig>) {
        let unnumbered = sessions
            .values()
            .filter(|config| config.remote.is_unnumbered());
        let watched: BTreeSet<Box<str>> = unnumbered
            .filter_map(|config| config.transport.source_interface.as_deref())
            .map(Box::from)
            .collect();
        if watched == self.watched {
            return;
        }
        match self.running(engine) {
            Ok(routers) => routers.watch(watched.clone()),
            Err(error) => report_failure(engine, &watched, &error),
        }
        self.watched = watched;
    }

    fn running(&mut self, engine: &Handle) -> io::Result<&Routers> {
        let routers = match self.routers.take() {
            Some(routers) => routers,
            None => start(engine)?,
        };
        Ok(self.routers.insert(routers))
    }
}

fn report_failure(engine: &Handle, interfaces: &BTreeSet<Box<str>>, error: &io::Error) {
    let note = format!("the router of this interface can't be found: {error}");
    tracing::error!("unnumbered peers have no session: {note}");
    for interface in interfaces {
        let state = LinkState {
            router: None,
            notes: vec![note.clone()],
        };
        engine.set_link(&**interface, state);
    }
}

/// The thread of layer 2's driver.
#[cfg(feature = "layer2")]
mod thread {
    use std::io;

    use ferrolb_bgp::fsm::{LinkRouter, LinkState};
    use ferrolb_bgp::speaker::Handle;
    pub(super) use ferrolb_layer2::driver::routers::Handle as Routers;
    use ferrolb_layer2::driver::routers::spawn;
    use ferrolb_layer2::routers::Change;

    pub(super) fn start(engine: &Handle) -> io::Result<Routers> {
        let engine = engine.clone();
        spawn(Box::new(move |change| {
            log(&change);
            let Change { interface, state } = change;
            let router = state.router.map(|router| LinkRouter {
                address: router.address,
                interface: router.interface.0,
            });
            let notes = state.notes.iter().map(ToString::to_string).collect();
            engine.set_link(interface, LinkState { router, notes });
        }))
    }

    fn log(Change { interface, state }: &Change) {
        let notes: Vec<String> = state.notes.iter().map(ToString::to_string).collect();
        let notes = notes.join("; ");
        match state.router.map(|router| router.address) {
            Some(router) if notes.is_empty() => {
                tracing::info!(%interface, %router, "found the router of unnumbered peers");
            }
            Some(router) => {
                tracing::info!(%interface, %router, "router of unnumbered peers: {notes}");
            }
            None => tracing::info!(%interface, "unnumbered peers have no router: {notes}"),
        }
    }
}

/// What replaces the thread in a program without layer 2.
#[cfg(not(feature = "layer2"))]
mod compiled_out {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::io;

    use ferrolb_bgp::speaker::Handle;

    /// There is no thread.
    #[derive(Debug)]
    pub(super) struct Routers(Infallible);

    impl Routers {
        pub(super) fn watch(&self, _: BTreeSet<Box<str>>) {
            match self.0 {}
        }
    }

    pub(super) fn start(_: &Handle) -> io::Result<Routers> {
        let text = "this program was built without the feature layer2: build it with it";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}
