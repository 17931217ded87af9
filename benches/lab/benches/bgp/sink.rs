//! The receiving side: a thread on the last core that accepts sessions and counts messages and
//! prefixes. It keeps no table and decodes no more than counting needs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ferrolb_bgp::wire::{Asn, Family, Open, RouteRefresh, keepalive};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ferrolb_lab_bench::proc_stats::thread_cpu_time;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::update_counter::{Count, count_messages};

pub(crate) const ASN: Asn = Asn(65002);
/// Seconds; long enough that no hold timer expires during a measurement.
pub(crate) const HOLD_TIME: u16 = 240;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const READ: usize = 256 * 1024;

/// Commands to the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    /// Whether connections send their OPEN.
    released: bool,
    /// Number of [`Sink::drop_all`] calls; a connection closes when it grows.
    drops: u64,
    /// Number of route refreshes requested.
    refreshes: u64,
}

/// One address of the sink.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Whether the TCP connection is open.
    pub(crate) connected: bool,
    /// When the KEEPALIVE that confirms our OPEN was received.
    pub(crate) established: Option<Instant>,
    /// When the last prefix was received.
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
    /// Listens on all addresses, on a thread in the namespace.
    pub(crate) fn open(
        namespace: &NamespaceHandle,
        addresses: &[IpAddr],
        family: Family,
    ) -> Result<Self> {
        let peers: Peers = Arc::new(addresses.iter().map(|_| Mutex::default()).collect());
        let prefixes = Arc::new(AtomicUsize::new(0));
        let (orders, ordered) = watch::channel(Orders::default());
        let (ready, opened) = std::sync::mpsc::channel();
        let namespace = namespace.try_clone()?;
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
                let outcome = namespace.enter().and_then(|()| pin().map_err(Into::into));
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
                        dropped(ordered).await;
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

    /// Sends the OPENs, so that sessions come up.
    pub(crate) fn release(&self) {
        self.orders.send_modify(|orders| orders.released = true);
    }

    /// Delays the OPEN of new connections until [`Sink::release`].
    pub(crate) fn hold(&self) {
        self.orders.send_modify(|orders| orders.released = false);
    }

    /// Closes every connection and resets the counts.
    pub(crate) fn drop_all(&self) {
        // Set here and not only by the sink's thread: a caller that waits for connections
        // afterwards must not see the closed ones.
        for peer in self.peers.iter() {
            let mut peer = peer.lock().unwrap_or_else(PoisonError::into_inner);
            peer.connected = false;
        }
        self.orders.send_modify(|orders| orders.drops += 1);
        self.reset();
    }

    /// Requests a route refresh (RFC 2918) and resets the counts.
    pub(crate) fn refresh(&self) {
        self.reset();
        self.orders.send_modify(|orders| orders.refreshes += 1);
    }

    /// Resets the counts; sessions stay up.
    pub(crate) fn reset(&self) {
        self.prefixes.store(0, Ordering::SeqCst);
        for peer in self.peers.iter() {
            let mut peer = peer.lock().unwrap_or_else(PoisonError::into_inner);
            peer.count = Count::default();
            peer.last = None;
        }
    }

    /// Prefixes announced and withdrawn, summed over all addresses.
    pub(crate) fn prefixes(&self) -> usize {
        self.prefixes.load(Ordering::SeqCst)
    }

    pub(crate) fn peers(&self) -> Vec<Peer> {
        let copy = |peer: &Mutex<Peer>| *peer.lock().unwrap_or_else(PoisonError::into_inner);
        self.peers.iter().map(copy).collect()
    }

    /// CPU time of the thread.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        thread_cpu_time(std::process::id(), &self.thread.to_string())
    }
}

/// Pins the calling thread to the last core, which is reserved for the sink.
pub(crate) fn pin() -> io::Result<()> {
    let mut cores = CpuSet::new();
    let count = thread::available_parallelism()?.get();
    cores.set(count - 1);
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Returns when the [`Sink`] is dropped.
async fn dropped(mut ordered: watch::Receiver<Orders>) {
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
                // The reason doesn't matter: the daemon dials again.
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
        let mut filled = 0;
        let refresh = RouteRefresh {
            family: self.family,
            subtype: RouteRefresh::REQUEST,
        };
        let refresh = refresh.encode();
        let mut tick = tokio::time::interval(KEEPALIVE_EVERY);
        loop {
            let changed = |orders: &Orders| orders.drops > drops || orders.refreshes > refreshes;
            tokio::select! {
                _ = tick.tick() => connection.write_all(&keepalive()).await?,
                orders = ordered.wait_for(changed) => {
                    let orders = *orders.map_err(io::Error::other)?;
                    if orders.drops > drops {
                        return Ok(());
                    }
                    refreshes = orders.refreshes;
                    connection.write_all(&refresh).await?;
                }
                readable = connection.readable() => readable?,
            }
            let length = match connection.try_read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            filled += length;
            let mut fresh = Count {
                octets: length,
                ..Count::default()
            };
            let used = count_messages(&buffer[..filled], &mut fresh)?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            self.change(|peer| {
                if fresh.keepalives > 0 {
                    peer.established.get_or_insert(now);
                }
                if fresh.prefixes > 0 {
                    peer.last = Some(now);
                }
                peer.count += fresh;
            });
            // After the times: a thread that reads the new number also reads the new times.
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
