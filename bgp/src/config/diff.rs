//! The effect of a configuration change on a running session.

use super::{PeerConfig, Timers, Transport};

/// The effect of a configuration change on a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impact {
    /// The session continues.
    None,
    /// The session must be reset, to negotiate again.
    Reset,
}

impl Transport {
    fn resets(&self, old: &Self) -> bool {
        let Self {
            source_address,
            source_interface,
            passive: _, // applies to the next connection attempt
            password,
            ttl_security,
            multihop,
        } = self;
        *source_address != old.source_address
            || *source_interface != old.source_interface
            // The key of a connection can be changed, but not be added or removed.
            || password.is_some() != old.password.is_some()
            || *ttl_security != old.ttl_security
            || *multihop != old.multihop
    }
}

impl Timers {
    fn resets(&self, old: &Self) -> bool {
        let Self {
            hold_time,
            keepalive_time,
            connect_retry: _,  // applies to the next connection attempt
            send_hold_time: _, // applies to the next message
        } = self;
        *hold_time != old.hold_time || *keepalive_time != old.keepalive_time
    }
}

impl PeerConfig {
    /// The effect on a session with configuration `old` when this one replaces it.
    #[must_use]
    pub fn impact(&self, old: &Self) -> Impact {
        // No `..`: a new field must be classified here to compile.
        let Self {
            name,
            remote,
            local_asn,
            remote_asn,
            router_id,
            transport,
            timers,
            families,
            next_hops,
            graceful_restart,
            bfd: _,           // a separate session
            prefix_limit: _,  // applies to the next UPDATE
            shutdown_text: _, // applies to the next shutdown
            receive,
        } = self;
        let same = *name == old.name
            && *remote == old.remote
            && *local_asn == old.local_asn
            && *remote_asn == old.remote_asn
            && *router_id == old.router_id
            && !transport.resets(&old.transport)
            && !timers.resets(&old.timers)
            && *families == old.families
            && *next_hops == old.next_hops
            && *graceful_restart == old.graceful_restart
            // A new subscriber needs all routes, not only later changes.
            && (*receive == old.receive || !*receive);
        if same { Impact::None } else { Impact::Reset }
    }
}
