//! Captures BGP messages and BFD packets on a node's interfaces with a packet socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::netns::Namespace;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketType, eth, recv, socket};

/// Ports of BGP (RFC 4271 §8), single-hop BFD (RFC 5881) and multihop BFD (RFC 5883).
const BGP: u16 = 179;
const BFD: [u16; 2] = [3784, 4784];
/// How often the recording thread checks whether it has to stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Longest frame, including segments that the kernel has coalesced.
const LONGEST: usize = 1 << 17;

/// A protocol of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Bgp,
    Bfd,
}

/// A message or packet; messages of a stream are in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recorded {
    pub(crate) sender: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) octets: Vec<u8>,
}

/// A thread that captures all frames in a namespace until the recorder is dropped.
pub(crate) struct Recorder {
    stop: Arc<AtomicBool>,
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the capture.
    ///
    /// # Errors
    /// When the namespace can't be entered or a packet socket can't be opened.
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        // A socket stays in the namespace in which it was opened.
        let packets = namespace.open()?.inside(|| {
            let packets = socket(AddressFamily::PACKET, SocketType::RAW, Some(eth::ALL))
                .context("open a packet socket")?;
            set_socket_timeout(&packets, Timeout::Recv, Some(STOP_CHECK_INTERVAL))?;
            Ok(packets)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let frames = Arc::new(Mutex::new(Vec::new()));
        let (stopped, into) = (stop.clone(), frames.clone());
        let thread = thread::spawn(move || record(&packets, &stopped, &into));
        Ok(Self {
            stop,
            frames,
            thread: Some(thread),
        })
    }

    /// The messages and packets captured so far.
    ///
    /// # Errors
    /// When a stream has a gap.
    pub(crate) fn recorded(&self) -> Result<Vec<Recorded>> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        recorded(&frames)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Fails if the thread panicked, which has printed a message.
            let _ = thread.join();
        }
    }
}

fn record(packets: &OwnedFd, stop: &AtomicBool, into: &Mutex<Vec<Vec<u8>>>) {
    let mut buffer = vec![0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        match recv(packets, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                let mut frames = into.lock().unwrap_or_else(PoisonError::into_inner);
                frames.push(buffer[..length].to_vec());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("read the packet socket: {error}"),
        }
    }
}

/// One direction of a connection, reassembled from its segments.
#[derive(Default)]
struct Stream {
    /// Sequence number of the first octet.
    first: u32,
    octets: Vec<u8>,
}

/// A segment or datagram: transport header and payload, without Ethernet padding.
struct Datagram<'a> {
    kind: u8,
    from: SocketAddr,
    to: SocketAddr,
    octets: &'a [u8],
}

fn recorded(frames: &[Vec<u8>]) -> Result<Vec<Recorded>> {
    let mut recorded = Vec::new();
    let mut streams: BTreeMap<(SocketAddr, SocketAddr), Stream> = BTreeMap::new();
    for datagram in frames.iter().filter_map(|frame| datagram(frame)) {
        let ends = (datagram.from, datagram.to);
        match datagram.kind {
            6 if [ends.0.port(), ends.1.port()].contains(&BGP) => {
                let stream = streams.entry(ends).or_default();
                add_segment(stream, datagram.octets).context(format!("{ends:?}"))?;
                // Take the complete messages; an incomplete one needs more segments.
                while let Some(message) = complete(&stream.octets) {
                    recorded.push(Recorded {
                        sender: ends.0.ip(),
                        protocol: Protocol::Bgp,
                        octets: message.to_vec(),
                    });
                    let length = message.len();
                    stream.first = stream.first.wrapping_add(u32::try_from(length)?);
                    stream.octets.drain(..length);
                }
            }
            17 if BFD.contains(&ends.1.port()) => recorded.push(Recorded {
                sender: ends.0.ip(),
                protocol: Protocol::Bfd,
                octets: datagram.octets.get(8..).unwrap_or_default().to_vec(),
            }),
            _ => {}
        }
    }
    Ok(recorded)
}

fn datagram(frame: &[u8]) -> Option<Datagram<'_>> {
    let packet = frame.get(14..)?;
    let half = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let (kind, from, to, octets): (u8, IpAddr, IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let start = usize::from(packet.first()? & 0x0f) * 4;
            let address = |at: usize| Some(<[u8; 4]>::into(*packet.get(at..)?.first_chunk()?));
            let octets = packet.get(start..usize::from(half(2)?))?;
            (*packet.get(9)?, address(12)?, address(16)?, octets)
        }
        [0x86, 0xdd] => {
            let address = |at: usize| Some(<[u8; 16]>::into(*packet.get(at..)?.first_chunk()?));
            let octets = packet.get(40..40 + usize::from(half(4)?))?;
            (*packet.get(6)?, address(8)?, address(24)?, octets)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?));
    Some(Datagram {
        kind,
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
        octets,
    })
}

/// Appends the octets of a TCP segment that the stream does not have yet; a SYN starts a new
/// stream.
fn add_segment(stream: &mut Stream, segment: &[u8]) -> Result<()> {
    let sequence = segment.get(4..).and_then(|rest| rest.first_chunk());
    let sequence = u32::from_be_bytes(*sequence.context("a short TCP header")?);
    let start = usize::from(segment.get(12).context("a short TCP header")? >> 4) * 4;
    let octets = segment.get(start..).context("a short segment")?;
    if segment[13] & 0x02 != 0 {
        *stream = Stream {
            first: sequence.wrapping_add(1),
            octets: Vec::new(),
        };
        return Ok(());
    }
    if octets.is_empty() {
        return Ok(());
    }
    // Octets before `first` are already removed.
    let ahead = sequence.wrapping_sub(stream.first).cast_signed();
    let length = i32::try_from(stream.octets.len())?;
    ensure!(ahead <= length, "a segment is missing");
    let known = usize::try_from(length - ahead)?;
    stream
        .octets
        .extend_from_slice(octets.get(known..).unwrap_or_default());
    Ok(())
}

/// The first message of a stream, if it is complete.
fn complete(octets: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*octets.get(16..)?.first_chunk()?);
    octets.get(..usize::from(length).max(19))
}
