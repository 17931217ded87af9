//! What a user of a Service would feel: a server that tells its name, and a client that keeps
//! asking it.
//!
//! ```text
//! lab-traffic serve NAME PORT
//! lab-traffic load ADDRESS:PORT NEW_PER_SECOND LONG_LIVED
//! ```
//!
//! `serve` answers each connection with one line, `NAME CLIENT_ADDRESS`, then echoes octets.
//! `load` opens new connections at a fixed rate and holds `LONG_LIVED` more open, each of which
//! echoes an octet every 100 ms. It runs until its standard input ends (so it never outlives its
//! test) and then prints one JSON object, [`Report`].

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// How long a connection may take to open and to answer before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two echoes of a long-lived connection.
const ECHO_EVERY: Duration = Duration::from_millis(100);
/// Failures told one by one; the others are only counted.
const FAILURES_TOLD: usize = 20;

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
    // Both families on Linux's default of bindv6only=0.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("bind")?;
    for connection in listener.incoming() {
        let Ok(connection) = connection else { continue };
        let name = name.to_owned();
        // A client that goes away is none of the server's business.
        thread::spawn(move || greet_and_echo(connection, &name).ok());
    }
    Ok(())
}

fn greet_and_echo(mut connection: TcpStream, name: &str) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let client = connection.peer_addr()?.ip().to_canonical();
    connection.write_all(format!("{name} {client}\n").as_bytes())?;
    let mut reader = connection.try_clone()?;
    io::copy(&mut reader, &mut connection)?;
    Ok(())
}

/// What `load` prints. Times are milliseconds.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// New connections answered, by the name that answered.
    answered: BTreeMap<String, u64>,
    /// Addresses the servers saw as their client's.
    seen_as: BTreeMap<IpAddr, u64>,
    /// New connections that got no answer.
    failed: u64,
    /// The first failures: milliseconds since the start, and why.
    failures: Vec<(u128, String)>,
    /// From the first to the last attempt that failed.
    failing_ms: u128,
    /// Longest time without any answered new connection, from the start to the end.
    longest_gap_ms: u128,
    /// Long-lived connections opened.
    long_lived: u64,
    /// Long-lived connections that ended or stopped echoing.
    broken: u64,
    /// How long it ran.
    ran_ms: u128,
}

/// The report as it fills, shared by all connections.
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

    fn failed(&self, begun: Instant, error: &anyhow::Error) {
        self.record(|report| {
            report.failed += 1;
            // Attempts end in another order than they began in.
            let first = self.first_failure.lock();
            let mut first = first.unwrap_or_else(PoisonError::into_inner);
            let first = first.get_or_insert(begun);
            report.failing_ms = if begun < *first {
                let since = first.duration_since(begun).as_millis();
                *first = begun;
                report.failing_ms + since
            } else {
                report
                    .failing_ms
                    .max(begun.duration_since(*first).as_millis())
            };
            if report.failures.len() < FAILURES_TOLD {
                let at = begun.duration_since(self.start).as_millis();
                report.failures.push((at, format!("{error:#}")));
            }
        });
    }
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
        // Reading the end of standard input, or failing to: either way nobody is there any more.
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        stopper.stopping.store(true, Ordering::Relaxed);
    });

    let mut threads = Vec::new();
    for _ in 0..long_lived {
        let tally = Arc::clone(&tally);
        threads.push(thread::spawn(move || hold(target, &tally)));
    }
    if rate > 0 {
        let every = Duration::from_secs(1) / rate;
        let mut next = start;
        while !tally.stopping.load(Ordering::Relaxed) {
            let tally = Arc::clone(&tally);
            threads.push(thread::spawn(move || ask_and_tell(target, &tally)));
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

fn ask_and_tell(target: SocketAddr, tally: &Tally) {
    let begun = Instant::now();
    match ask(target) {
        Ok((_, name, seen_as)) => tally.answered(&name, seen_as),
        Err(error) => tally.failed(begun, &error),
    }
}

/// Opens a connection and reads the greeting.
fn ask(target: SocketAddr) -> Result<(BufReader<TcpStream>, String, IpAddr)> {
    let connection = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).context("greeting")?;
    let (name, seen_as) = line.trim_end().split_once(' ').context("no greeting")?;
    let seen_as = seen_as
        .parse()
        .context("client's address in the greeting")?;
    Ok((reader, name.to_owned(), seen_as))
}

/// Keeps one connection open until the end, and counts it as broken if it does not last.
fn hold(target: SocketAddr, tally: &Tally) {
    tally.record(|report| report.long_lived += 1);
    let held = ask(target).and_then(|(mut connection, _, _)| {
        let mut octet = [0];
        while !tally.stopping.load(Ordering::Relaxed) {
            connection.get_mut().write_all(b".").context("write")?;
            connection.read_exact(&mut octet).context("echo")?;
            thread::sleep(ECHO_EVERY);
        }
        Ok(())
    });
    if held.is_err() {
        tally.record(|report| report.broken += 1);
    }
}
