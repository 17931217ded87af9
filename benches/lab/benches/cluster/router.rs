//! A router of the benchmark: accepts a session and reports each UPDATE with its time of arrival.
//!
//! One thread per router reads the socket and takes the time directly after the read, before it
//! decodes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, Message, Open, keepalive};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ferrolb_interop_tests::topology::TOR_ASN;
use ipnet::IpNet;

/// No hold timer: the routers have no timers of their own, and an announcer that keeps sending
/// UPDATEs sends no KEEPALIVE that they could answer (RFC 4271 §4.4).
const HOLD_TIME: u16 = 0;

/// Something that a router received.
#[derive(Debug)]
pub(crate) struct Received {
    /// When the octets were read from the socket.
    pub(crate) at: Instant,
    /// Index of the router.
    pub(crate) router: usize,
    /// What was received.
    pub(crate) event: Event,
}

/// A change of a session or of its routes.
#[derive(Debug)]
pub(crate) enum Event {
    /// The session is established.
    Established,
    /// Prefixes announced by an UPDATE.
    Announced(Vec<IpNet>),
    /// Prefixes withdrawn by an UPDATE.
    Withdrawn(Vec<IpNet>),
    /// End-of-RIB.
    EndOfRib,
    /// The connection was closed.
    Closed,
}

/// Starts a router on port 179 of an address in the namespace. It runs until the process ends.
///
/// # Errors
/// When the port can't be bound.
pub(crate) fn start(
    namespace: &NamespaceHandle,
    router: usize,
    address: Ipv4Addr,
    received: Sender<Received>,
) -> Result<()> {
    let listener = namespace.inside(move || {
        let address = SocketAddr::from((address, 179));
        TcpListener::bind(address).with_context(|| format!("listen on {address}"))
    })?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let outcome = stream
                .context("accept")
                .and_then(|stream| serve(stream, router, address, &received));
            let closed = Received {
                at: Instant::now(),
                router,
                event: Event::Closed,
            };
            if let Err(error) = outcome {
                eprintln!("router {router}: {error:#}");
            }
            if received.send(closed).is_err() {
                return; // the measurement is over
            }
        }
    });
    Ok(())
}

/// Serves one session until the announcer closes it.
fn serve(
    mut stream: TcpStream,
    router: usize,
    address: Ipv4Addr,
    received: &Sender<Received>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let open = Open::new(Asn(TOR_ASN), HOLD_TIME, address, &[Family::IPV4_UNICAST]);
    stream.write_all(&open.encode())?;
    let context = DecodeContext {
        four_octet_asn: true,
        families: vec![Family::IPV4_UNICAST],
        ..DecodeContext::default()
    };
    let mut framer = Framer::default();
    let mut octets = vec![0; 65_536];
    let mut established = false;
    loop {
        let length = match stream.read(&mut octets) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let at = Instant::now();
        framer.push(&octets[..length]);
        while let Some(message) = framer.next(&context) {
            let send = |event| received.send(Received { at, router, event }).is_ok();
            let sent = match message? {
                Message::Open(_) => {
                    stream.write_all(&keepalive())?;
                    true
                }
                Message::Keepalive if established => {
                    stream.write_all(&keepalive())?;
                    true
                }
                Message::Keepalive => {
                    established = true;
                    send(Event::Established)
                }
                Message::Update(update) if update.end_of_rib().is_some() => send(Event::EndOfRib),
                Message::Update(update) => {
                    let withdrawn: Vec<IpNet> = update.withdrawn_prefixes().collect();
                    let announced: Vec<IpNet> = update.announced().collect();
                    (withdrawn.is_empty() || send(Event::Withdrawn(withdrawn)))
                        && (announced.is_empty() || send(Event::Announced(announced)))
                }
                Message::Notification(_) => return Ok(()),
                other @ Message::RouteRefresh(_) => bail!("unexpected message: {other:?}"),
            };
            if !sent {
                return Ok(());
            }
        }
    }
}
