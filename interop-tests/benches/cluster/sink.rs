//! The routers of the benchmark: they answer a session, note when which prefix came, and keep no table.
//!
//! A thread per router reads its socket and looks at the clock as soon as the kernel hands it octets: before decoding.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, Message, Open, keepalive};
use ferrolb_interop_tests::topology::TOR_ASN;
use ipnet::IpNet;

use super::place::Place;

/// None: the receivers have no timers, and an announcer that sends UPDATEs all the time sends no
/// KEEPALIVE that they could answer (RFC 4271 §4.4).
const HOLD_TIME: u16 = 0;

/// What a router was told.
#[derive(Debug)]
pub(crate) struct Told {
    /// When the octets were read from the socket.
    pub(crate) at: Instant,
    /// Which router, from 0.
    pub(crate) router: usize,
    /// What they said.
    pub(crate) what: What,
}

/// What a message said.
#[derive(Debug)]
pub(crate) enum What {
    /// The session is established.
    Established,
    /// An UPDATE that announces.
    Announced(Vec<IpNet>),
    /// An UPDATE that withdraws.
    Withdrawn(Vec<IpNet>),
    /// All of a family was sent.
    EndOfRib,
    /// The session is over.
    Closed,
}

/// Starts a router on port 179 of an address of the place. It lives as long as the process.
///
/// # Errors
/// When the port can't be bound.
pub(crate) fn start(
    place: &Place,
    router: usize,
    address: Ipv4Addr,
    told: Sender<Told>,
) -> Result<()> {
    let listener = place.inside(move || {
        let address = SocketAddr::from((address, 179));
        TcpListener::bind(address).with_context(|| format!("listen on {address}"))
    })?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let outcome = stream
                .context("accept")
                .and_then(|stream| serve(stream, router, address, &told));
            let closed = Told {
                at: Instant::now(),
                router,
                what: What::Closed,
            };
            if let Err(error) = outcome {
                eprintln!("router {router}: {error:#}");
            }
            if told.send(closed).is_err() {
                return; // nobody measures any more
            }
        }
    });
    Ok(())
}

/// One session, until the announcer ends it.
fn serve(
    mut stream: TcpStream,
    router: usize,
    address: Ipv4Addr,
    told: &Sender<Told>,
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
            let tell = |what| told.send(Told { at, router, what }).is_ok();
            let heard = match message? {
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
                    tell(What::Established)
                }
                Message::Update(update) if update.end_of_rib().is_some() => tell(What::EndOfRib),
                Message::Update(update) => {
                    let withdrawn: Vec<IpNet> = update.withdrawn_prefixes().collect();
                    let announced: Vec<IpNet> = update.announced().collect();
                    (withdrawn.is_empty() || tell(What::Withdrawn(withdrawn)))
                        && (announced.is_empty() || tell(What::Announced(announced)))
                }
                Message::Notification(_) => return Ok(()),
                other @ Message::RouteRefresh(_) => bail!("unasked: {other:?}"),
            };
            if !heard {
                return Ok(());
            }
        }
    }
}
