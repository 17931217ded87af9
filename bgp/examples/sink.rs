//! Accepts sessions and counts what it receives: UPDATEs, prefixes, octets, End-of-RIBs, with
//! times.
//!
//! It uses only `ferrolb_bgp::wire`: a thread per connection, no state machine and no table. Use it
//! in tests, or to see what another speaker sends. For many sessions with one speaker, let it
//! listen on many addresses.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ferrolb_bgp::wire::{
    Agreement, Asn, DecodeContext, DecodeError, Family, Framer, Message, Notification, Open,
    Update, keepalive,
};

/// Counts are printed after this time without received octets.
const QUIET: Duration = Duration::from_secs(1);

/// Accept BGP sessions and count what they receive, until Ctrl-C.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
Example: two sessions with a speaker of any AS, on two loopback addresses
    sink --listen 127.0.0.2:1790 --listen 127.0.0.3:1790 --asn 65002")]
struct Options {
    /// Address and port on which to accept connections (repeatable)
    #[arg(long, value_name = "ADDRESS:PORT", required = true)]
    listen: Vec<SocketAddr>,
    /// Local AS number
    #[arg(long)]
    asn: Asn,
    /// AS number of the peer [default: any]
    #[arg(long)]
    peer_asn: Option<Asn>,
    /// BGP identifier [default: the listening address if it is IPv4]
    #[arg(long)]
    router_id: Option<Ipv4Addr>,
    /// Hold time in seconds: 0, or at least 3
    #[arg(long, default_value_t = 90)]
    hold_time: u16,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut threads = Vec::new();
    for &address in &options.listen {
        let listener = TcpListener::bind(address)?;
        println!("{}: listening", listener.local_addr()?);
        let options = options.clone();
        threads.push(thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let options = options.clone();
                thread::spawn(move || serve(&connection, &options));
            }
        }));
    }
    for thread in threads {
        // A thread ends only by a panic, which is printed already.
        drop(thread.join());
    }
    Ok(())
}

/// Serves one connection until it ends.
fn serve(connection: &TcpStream, options: &Options) {
    let Ok(local) = connection.local_addr() else {
        return; // closed already
    };
    let mut session = Session::new(connection, local, options);
    let end = session
        .run(options)
        .unwrap_or_else(|error| error.to_string());
    println!("{local}: {end}; {}", session.count);
}

/// Counters of a session; times are relative to Established.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    updates: u64,
    announced: usize,
    withdrawn: usize,
    malformed: u64,
    octets: usize,
    end_of_rib: Vec<(Family, Duration)>,
    first: Option<Duration>,
    last: Option<Duration>,
}

struct Session<'a> {
    connection: &'a TcpStream,
    local: SocketAddr,
    ours: Open,
    agreement: Option<Agreement>,
    established: Option<Instant>,
    last_received: Instant,
    last_sent: Instant,
    count: Count,
    printed: Count,
}

impl<'a> Session<'a> {
    fn new(connection: &'a TcpStream, local: SocketAddr, options: &Options) -> Self {
        let address = match local.ip().to_canonical() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::new(10, 255, 255, 1),
        };
        let router_id = options.router_id.unwrap_or(address);
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        let now = Instant::now();
        Self {
            connection,
            local,
            ours: Open::new(options.asn, options.hold_time, router_id, &families),
            agreement: None,
            established: None,
            last_received: now,
            last_sent: now,
            count: Count::default(),
            printed: Count::default(),
        }
    }

    /// Reads until the session ends. Returns the reason.
    fn run(&mut self, options: &Options) -> io::Result<String> {
        self.connection.set_nodelay(true)?;
        self.connection.set_read_timeout(Some(QUIET))?;
        self.send(&self.ours.encode())?;
        let mut framer = Framer::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match (&mut &*self.connection).read(&mut buffer) {
                Ok(0) => return Ok("closed by the peer".to_owned()),
                Ok(length) => {
                    self.last_received = Instant::now();
                    self.count.octets += length;
                    framer.push(&buffer[..length]);
                }
                Err(error) if is_timeout(&error) => self.print(),
                Err(error) => return Err(error),
            }
            let context = self.context();
            while let Some(message) = framer.next(&context) {
                let outcome = message
                    .map_err(End::Error)
                    .and_then(|message| self.process(message, options));
                match outcome {
                    Ok(()) => {}
                    Err(End::Received(notification)) => {
                        return Ok(format!("received {notification}"));
                    }
                    Err(End::Error(error)) => {
                        self.send(&error.notification().encode())?;
                        return Ok(format!("ended: {error}"));
                    }
                }
                if self.context() != context {
                    break; // The OPEN changed the decoding of the remaining octets.
                }
            }
            if let Some(end) = self.timers()? {
                return Ok(end);
            }
        }
    }

    fn process(&mut self, message: Message, options: &Options) -> Result<(), End> {
        match message {
            Message::Open(open) => {
                let agreement = Agreement::negotiate(&self.ours, &open, options.peer_asn);
                self.agreement = Some(agreement.map_err(End::Error)?);
                // An error shows at the next read.
                drop(self.send(&keepalive()));
            }
            Message::Keepalive if self.established.is_none() => {
                self.established = Some(self.last_received);
                println!("{}: established", self.local);
            }
            Message::Update(update) => self.update(&update),
            Message::Notification(notification) => return Err(End::Received(notification)),
            Message::Keepalive | Message::RouteRefresh(_) => {}
        }
        Ok(())
    }

    fn update(&mut self, update: &Update) {
        let at = self
            .established
            .map(|since| self.last_received - since)
            .unwrap_or_default();
        let count = &mut self.count;
        count.updates += 1;
        if let Some(family) = update.end_of_rib() {
            count.end_of_rib.push((family, at));
            return;
        }
        count.announced += update.announced().count();
        count.withdrawn += update.withdrawn_prefixes().count();
        count.malformed += u64::from(!update.errors.is_empty());
        count.first.get_or_insert(at);
        count.last = Some(at);
    }

    /// Context for decoding the next message.
    fn context(&self) -> DecodeContext {
        let agreement = self.agreement.as_ref();
        DecodeContext {
            loopback: self.local.ip().is_loopback(),
            ..agreement.map_or_else(DecodeContext::default, Agreement::decode_context)
        }
    }

    /// KEEPALIVE and hold time (RFC 4271 §4.4, §6.5).
    fn timers(&mut self) -> io::Result<Option<String>> {
        let agreement = self.agreement.as_ref();
        let Some(hold_time) = agreement.and_then(|agreement| agreement.hold_time.duration()) else {
            return Ok(None);
        };
        if self.last_received.elapsed() > hold_time {
            self.send(&Notification::hold_timer_expired().encode())?;
            return Ok(Some("hold timer expired".to_owned()));
        }
        if self.last_sent.elapsed() > hold_time / 3 {
            self.send(&keepalive())?;
        }
        Ok(None)
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.last_sent = Instant::now();
        (&mut &*self.connection).write_all(octets)
    }

    fn print(&mut self) {
        if self.count != self.printed {
            println!("{}: {}", self.local, self.count);
            self.printed = self.count.clone();
        }
    }
}

/// Why a session ends.
enum End {
    Received(Notification),
    Error(DecodeError),
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} UPDATEs, {} octets: {} prefixes announced, {} withdrawn",
            self.updates, self.octets, self.announced, self.withdrawn
        )?;
        if self.malformed > 0 {
            write!(f, ", {} UPDATEs with errors", self.malformed)?;
        }
        if let (Some(first), Some(last)) = (self.first, self.last) {
            write!(f, "; first after {first:.3?}, last after {last:.3?}")?;
        }
        for (family, at) in &self.end_of_rib {
            write!(f, "; End-of-RIB {family} after {at:.3?}")?;
        }
        Ok(())
    }
}
