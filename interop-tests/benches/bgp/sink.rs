//! The receiving side: a thread on the last core that takes sessions, walks over the octets and
//! counts. It keeps no table, and decodes only as much as counting prefixes needs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ferrolb_bgp::wire::{Asn, Family, Open, RouteRefresh, keepalive};
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::count::{Count, count_messages};
use super::place::Place;
use super::usage::thread_time;

pub(crate) const ASN: Asn = Asn(65002);
/// Nobody's hold timer is to run out while something is measured.
pub(crate) const HOLD_TIME: u16 = 240;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const READ: usize = 256 * 1024;

/// What connections are to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    /// Send the OPENs that were held back.
    released: bool,
    /// Connections made before this many drops are to close.
    drops: u64,
    /// So many times everything was asked for again.
    refreshes: u64,
}

/// One address of the sink.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Connected and not gone.
    pub(crate) connected: bool,
    /// When the KEEPALIVE came that answers our OPEN.
    pub(crate) established: Option<Instant>,
    /// When the last prefix came.
    pub(crate) last: Option<Instant>,
    pub(crate) count: Count,
}

type Peers = Arc<Vec<Mutex<Peer>>>;

pub(crate) struct Sink {
    peers: Peers,
    orders: watch::Sender<Orders>,
    prefixes: Arc<AtomicUsize>,
    thread: i32,
}

impl Sink {
    /// Listens on all addresses, on a thread inside the place.
    pub(crate) fn open(place: &Place, addresses: &[IpAddr], family: Family) -> Result<Self> {
        let peers: Peers = Arc::new(addresses.iter().map(|_| Mutex::default()).collect());
        let prefixes = Arc::new(AtomicUsize::new(0));
        let (orders, ordered) = watch::channel(Orders::default());
        let (ready, opened) = std::sync::mpsc::channel();
        let place = place.again()?;
        let sessions: Vec<_> = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| Session {
                address: SocketAddr::new(*address, 179),
                index,
                family,
                peers: peers.clone(),
                prefixes: prefixes.clone(),
                ordered: ordered.clone(),
            })
            .collect();
        thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || {
                let outcome = place.enter().and_then(|()| pin().map_err(Into::into));
                drop(ready.send(outcome.map(|()| gettid().as_raw_nonzero().get())));
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                {
                    let local = tokio::task::LocalSet::new();
                    local.block_on(&runtime, async move {
                        for session in sessions {
                            tokio::task::spawn_local(session.listen());
                        }
                        ended(ordered).await;
                    });
                }
            })?;
        let thread = opened.recv().context("the sink's thread ended")??;
        Ok(Self {
            peers,
            orders,
            prefixes,
            thread,
        })
    }

    /// Lets sessions come up.
    pub(crate) fn release(&self) {
        self.orders.send_modify(|orders| orders.released = true);
    }

    /// Holds back OPENs of connections to come.
    pub(crate) fn hold(&self) {
        self.orders.send_modify(|orders| orders.released = false);
    }

    /// Closes every connection, and forgets what was counted.
    pub(crate) fn drop_all(&self) {
        // Here, not only by the sink's thread: who waits for connections means those to come.
        for peer in self.peers.iter() {
            let mut peer = peer.lock().unwrap_or_else(PoisonError::into_inner);
            peer.connected = false;
        }
        self.orders.send_modify(|orders| orders.drops += 1);
        self.forget();
    }

    /// Asks for everything again, and forgets what was counted.
    pub(crate) fn refresh(&self) {
        self.forget();
        self.orders.send_modify(|orders| orders.refreshes += 1);
    }

    /// Counts from zero, in the sessions that there are.
    pub(crate) fn forget(&self) {
        self.prefixes.store(0, Ordering::SeqCst);
        for peer in self.peers.iter() {
            let mut peer = peer.lock().unwrap_or_else(PoisonError::into_inner);
            peer.count = Count::default();
            peer.last = None;
        }
    }

    /// Prefixes announced and withdrawn, at all addresses.
    pub(crate) fn prefixes(&self) -> usize {
        self.prefixes.load(Ordering::SeqCst)
    }

    pub(crate) fn peers(&self) -> Vec<Peer> {
        let copy = |peer: &Mutex<Peer>| *peer.lock().unwrap_or_else(PoisonError::into_inner);
        self.peers.iter().map(copy).collect()
    }

    /// Processor time of the thread.
    pub(crate) fn time(&self) -> Result<Duration> {
        thread_time(std::process::id(), self.thread)
    }
}

/// The last core is the sink's.
pub(crate) fn pin() -> io::Result<()> {
    let mut cores = CpuSet::new();
    let count = thread::available_parallelism()?.get();
    cores.set(count - 1);
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Returns when the sink was dropped.
async fn ended(mut ordered: watch::Receiver<Orders>) {
    while ordered.changed().await.is_ok() {}
}

#[derive(Clone)]
struct Session {
    address: SocketAddr,
    index: usize,
    family: Family,
    peers: Peers,
    prefixes: Arc<AtomicUsize>,
    ordered: watch::Receiver<Orders>,
}

impl Session {
    async fn listen(self) {
        let listener = match listener(self.address) {
            Ok(listener) => listener,
            Err(error) => return eprintln!("listen on {}: {error}", self.address),
        };
        while let Ok((connection, _)) = listener.accept().await {
            let session = self.clone();
            tokio::task::spawn_local(async move {
                session.change(|peer| {
                    *peer = Peer {
                        connected: true,
                        ..Peer::default()
                    };
                });
                // Whatever ended it, the daemon dials again.
                drop(session.run(connection).await);
                session.change(|peer| peer.connected = false);
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get(self.index) {
            change(&mut peer.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    async fn run(&self, mut connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut ordered = self.ordered.clone();
        let Orders {
            drops,
            mut refreshes,
            ..
        } = *ordered.borrow();
        let released = ordered
            .wait_for(|orders| orders.released || orders.drops > drops)
            .await;
        drop(released.map_err(io::Error::other)?);
        let low = u8::try_from(self.index % 250).unwrap_or_default();
        let router_id = Ipv4Addr::new(10, 255, 1, low + 1);
        let open = Open::new(ASN, HOLD_TIME, router_id, &[self.family]).encode();
        connection
            .write_all(&[&open[..], &keepalive()].concat())
            .await?;
        let mut buffer = vec![0; READ];
        let mut held = 0;
        let refresh = RouteRefresh {
            family: self.family,
            subtype: RouteRefresh::REQUEST,
        };
        let refresh = refresh.encode();
        let mut tick = tokio::time::interval(KEEPALIVE_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => connection.write_all(&keepalive()).await?,
                orders = ordered.wait_for(|orders| orders.drops > drops || orders.refreshes > refreshes) => {
                    let orders = *orders.map_err(io::Error::other)?;
                    if orders.drops > drops {
                        return Ok(());
                    }
                    refreshes = orders.refreshes;
                    connection.write_all(&refresh).await?;
                }
                readable = connection.readable() => readable?,
            }
            let length = match connection.try_read(&mut buffer[held..]) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            held += length;
            let mut fresh = Count {
                octets: length,
                ..Count::default()
            };
            let used = count_messages(&buffer[..held], &mut fresh)?;
            buffer.copy_within(used..held, 0);
            held -= used;
            self.change(|peer| {
                if fresh.keepalives > 0 {
                    peer.established.get_or_insert(now);
                }
                if fresh.prefixes > 0 {
                    peer.last = Some(now);
                }
                peer.count += fresh;
            });
            // After the times were written: whoever sees the number sees them.
            self.prefixes.fetch_add(fresh.prefixes, Ordering::SeqCst);
        }
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(16)
}
