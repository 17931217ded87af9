//! Traffic for the lab: a server that sends its name, and a client that measures failed and broken
//! connections.
//!
//! ```text
//! lab-traffic serve NAME PORT
//! lab-traffic load ADDRESS:PORT NEW_PER_SECOND LONG_LIVED
//! ```
//!
//! `serve` answers each connection with one line, `NAME CLIENT_ADDRESS`, then echoes octets. It
//! answers each datagram with such a line. `load` opens new connections at a fixed rate and keeps
//! `LONG_LIVED` others open, each of which echoes an octet every 100 ms. It runs until its standard
//! input is closed, at the latest when its test ends, and prints one JSON object, [`Report`].

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// A connection fails if opening it or its answer takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between two echoes of a long-lived connection.
const ECHO_INTERVAL: Duration = Duration::from_millis(100);
/// Number of failures in the report; further ones are only counted.
const MAX_FAILURES: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", name, port] => serve(name, port),
        ["load", target, rate, long_lived] => load(target, rate, long_lived),
        _ => Err(anyhow::anyhow!(
            "usage: lab-traffic serve NAME PORT | load ADDRESS:PORT NEW_PER_SECOND LONG_LIVED"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-traffic: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, port: &str) -> Result<()> {
    let port: u16 = port.parse().context("PORT")?;
    // Accepts both families with Linux' default of bindv6only=0.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("bind")?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).context("bind")?;
    let datagrams = name.to_owned();
    thread::spawn(move || answer_datagrams(&socket, &datagrams));
    for connection in listener.incoming() {
        let Ok(connection) = connection else { continue };
        let name = name.to_owned();
        // Fails when the client closes the connection.
        thread::spawn(move || greet_and_echo(connection, &name).ok());
    }
    Ok(())
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    loop {
        // Fails when a client has closed its socket: the next datagram is another client's.
        let Ok((_, client)) = socket.recv_from(&mut [0]) else {
            continue;
        };
        let line = format!("{name} {}\n", client.ip().to_canonical());
        socket.send_to(line.as_bytes(), client).ok();
    }
}

fn greet_and_echo(mut connection: TcpStream, name: &str) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let client = connection.peer_addr()?.ip().to_canonical();
    connection.write_all(format!("{name} {client}\n").as_bytes())?;
    let mut reader = connection.try_clone()?;
    io::copy(&mut reader, &mut connection)?;
    Ok(())
}

/// Output of `load`. Times are in milliseconds.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Answered new connections by server name.
    answered: BTreeMap<String, u64>,
    /// Client addresses that the servers saw.
    seen_as: BTreeMap<IpAddr, u64>,
    /// New connections without an answer.
    failed: u64,
    /// Those of them that opened, and then closed or had no answer.
    cut: u64,
    /// The first failures: time since the start, and the error.
    failures: Vec<(u128, String)>,
    /// From the first to the last failed attempt.
    failing_ms: u128,
    /// Longest time without an answered new connection.
    longest_gap_ms: u128,
    /// Long-lived connections opened.
    long_lived: u64,
    /// Long-lived connections that closed or stopped echoing.
    broken: u64,
    /// Duration of the run.
    ran_ms: u128,
}

/// The report under construction, shared by all connections.
struct Tally {
    start: Instant,
    last_answer: Mutex<Instant>,
    first_failure: Mutex<Option<Instant>>,
    report: Mutex<Report>,
    stopping: AtomicBool,
}

impl Tally {
    fn record(&self, record: impl FnOnce(&mut Report)) {
        record(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn answered(&self, name: &str, seen_as: IpAddr) {
        let gap = {
            let mut last = self
                .last_answer
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let gap = last.elapsed().as_millis();
            *last = Instant::now();
            gap
        };
        self.record(|report| {
            *report.answered.entry(name.to_owned()).or_default() += 1;
            *report.seen_as.entry(seen_as).or_default() += 1;
            report.longest_gap_ms = report.longest_gap_ms.max(gap);
        });
    }

    fn failed(&self, began: Instant, failure: &Failure) {
        self.record(|report| {
            report.failed += 1;
            report.cut += u64::from(failure.opened);
            // Attempts end in a different order than they began.
            let first = self.first_failure.lock();
            let mut first = first.unwrap_or_else(PoisonError::into_inner);
            let first = first.get_or_insert(began);
            report.failing_ms = if began < *first {
                let since = first.duration_since(began).as_millis();
                *first = began;
                report.failing_ms + since
            } else {
                report
                    .failing_ms
                    .max(began.duration_since(*first).as_millis())
            };
            if report.failures.len() < MAX_FAILURES {
                let at = began.duration_since(self.start).as_millis();
                let error = format!("{:#}", failure.error);
                report.failures.push((at, error));
            }
        });
    }
}

/// Why a new connection has no answer.
struct Failure {
    /// Whether the handshake of TCP was complete.
    opened: bool,
    error: anyhow::Error,
}

fn load(target: &str, rate: &str, long_lived: &str) -> Result<()> {
    let target: SocketAddr = target.parse().context("ADDRESS:PORT")?;
    let rate: u32 = rate.parse().context("NEW_PER_SECOND")?;
    let long_lived: u64 = long_lived.parse().context("LONG_LIVED")?;
    let start = Instant::now();
    let tally = Arc::new(Tally {
        start,
        last_answer: Mutex::new(start),
        first_failure: Mutex::default(),
        report: Mutex::default(),
        stopping: AtomicBool::new(false),
    });

    let stopper = Arc::clone(&tally);
    thread::spawn(move || {
        // Ends when the parent closes the pipe or dies.
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        stopper.stopping.store(true, Ordering::Relaxed);
    });

    let mut threads = Vec::new();
    for _ in 0..long_lived {
        let tally = Arc::clone(&tally);
        threads.push(thread::spawn(move || keep_open(target, &tally)));
    }
    if rate > 0 {
        let every = Duration::from_secs(1) / rate;
        let mut next = start;
        while !tally.stopping.load(Ordering::Relaxed) {
            let tally = Arc::clone(&tally);
            threads.push(thread::spawn(move || connect_and_record(target, &tally)));
            threads.retain(|thread| !thread.is_finished());
            next += every;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            bail!("a connection's thread panicked");
        }
    }

    let last_gap = tally
        .last_answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .elapsed();
    let mut report = tally.report.lock().unwrap_or_else(PoisonError::into_inner);
    if rate > 0 {
        report.longest_gap_ms = report.longest_gap_ms.max(last_gap.as_millis());
    }
    report.ran_ms = start.elapsed().as_millis();
    println!("{}", serde_json::to_string(&*report)?);
    Ok(())
}

fn connect_and_record(target: SocketAddr, tally: &Tally) {
    let began = Instant::now();
    match connect(target) {
        Ok((_, name, seen_as)) => tally.answered(&name, seen_as),
        Err(failure) => tally.failed(began, &failure),
    }
}

/// A connection that has its greeting: server name and client address.
type Greeted = (BufReader<TcpStream>, String, IpAddr);

/// Opens a connection and reads the greeting.
fn connect(target: SocketAddr) -> Result<Greeted, Failure> {
    let connection =
        TcpStream::connect_timeout(&target, ANSWER_TIMEOUT).map_err(|error| Failure {
            // A reset in SYN-SENT is ECONNREFUSED (tcp_reset of Linux). ECONNRESET says that the
            // handshake was complete before this thread saw it.
            opened: error.kind() == io::ErrorKind::ConnectionReset,
            error: anyhow::Error::new(error).context("connect"),
        })?;
    greeted(connection).map_err(|error| Failure {
        opened: true,
        error,
    })
}

fn greeted(connection: TcpStream) -> Result<Greeted> {
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).context("greeting")?;
    let (name, seen_as) = line
        .trim_end()
        .split_once(' ')
        .context("malformed greeting")?;
    let seen_as = seen_as
        .parse()
        .context("client's address in the greeting")?;
    Ok((reader, name.to_owned(), seen_as))
}

/// Keeps one connection open until the run ends; counts it as broken if it fails earlier.
fn keep_open(target: SocketAddr, tally: &Tally) {
    tally.record(|report| report.long_lived += 1);
    let opened = connect(target).map_err(|failure| failure.error);
    let outcome = opened.and_then(|(mut connection, _, _)| {
        let mut octet = [0];
        while !tally.stopping.load(Ordering::Relaxed) {
            connection.get_mut().write_all(b".").context("write")?;
            connection.read_exact(&mut octet).context("echo")?;
            thread::sleep(ECHO_INTERVAL);
        }
        Ok(())
    });
    if outcome.is_err() {
        tally.record(|report| report.broken += 1);
    }
}
