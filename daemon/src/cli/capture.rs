//! `ferrolb capture`: the messages of a session of a running daemon, as MRT or pcap.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ferrolb_bgp::capture::{CapturedMessage, Pcap, mrt};

use super::client_args::parse_duration;
use crate::runtime::serve::control::capture::CaptureLine;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{DEFAULT_SOCKET, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb capture tor-a -o tor-a.mrt --duration 30s
  ferrolb capture 10.0.0.1 --format pcap | tshark -r - -V
  kubectl exec -n metallb-system ferrolb-announcer-x7k2p -- \\
    /ferrolb capture tor-a --format pcap --count 100 > tor-a.pcap

The keys of TCP MD5 are no part of messages, so the recording doesn't contain them.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CaptureArgs {
    /// BGPPeer's name or router's address.
    #[arg(value_name = "NAME|ADDRESS")]
    peer: String,
    /// Format of the recording.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// File to write. [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End after this time, such as 30s or 5m. [default: until interrupted]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// End after this number of messages.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Path of the daemon's control socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// The format of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// MRT (RFC 6396): BGP4MP_ET records with microseconds, as bgpdump and bgpkit read them.
    #[default]
    Mrt,
    /// For Wireshark, tshark and tcpdump: the headers of IP and TCP are made up, except addresses
    /// and ports.
    Pcap,
}

pub(super) fn run(args: &CaptureArgs) -> anyhow::Result<ExitCode> {
    if args.output.is_none() && io::stdout().is_terminal() {
        bail!("a recording is no text: give a file with -o FILE, or redirect standard output");
    }
    let mut client = Client::connect(&args.socket)?;
    client.send(&Request::Capture {
        peer: args.peer.clone(),
    })?;
    // The daemon confirms the capture before the file is created.
    let first: CaptureLine = client.receive()?;
    let messages = record(args, &mut client, first)?;
    eprintln!("messages recorded: {messages}");
    Ok(ExitCode::SUCCESS)
}

/// Writes messages until one of the limits. Returns their number.
fn record(args: &CaptureArgs, client: &mut Client, first: CaptureLine) -> anyhow::Result<u64> {
    let mut recording = Recording::create(args)?;
    let begin = Instant::now();
    let (mut line, mut messages) = (first, 0);
    loop {
        match line {
            CaptureLine::Idle => {}
            CaptureLine::Missed(missed) => eprintln!(
                "ferrolb: {missed} messages are missing here: they came faster than they could be \
                 written"
            ),
            CaptureLine::Message(message) => {
                let message = message.message().context(
                    "the daemon sent a message in an unknown format: use the program that the \
                     daemon runs, such as /ferrolb in its container",
                )?;
                if !recording.write(&message)? {
                    return Ok(messages);
                }
                messages += 1;
            }
        }
        let enough = args.count.is_some_and(|count| messages >= count);
        if enough || args.duration.is_some_and(|time| begin.elapsed() >= time) {
            return Ok(messages);
        }
        line = match client.receive() {
            // What was written is complete.
            Err(AskError::Disconnected { error, .. })
                if error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                eprintln!("ferrolb: the daemon has ended, and the capture with it");
                return Ok(messages);
            }
            line => line?,
        };
    }
}

/// A file, or standard output.
struct Recording {
    out: Box<dyn Write>,
    /// For errors.
    name: String,
    /// `None` for MRT.
    pcap: Option<Pcap>,
}

impl Recording {
    fn create(args: &CaptureArgs) -> anyhow::Result<Self> {
        let (out, name): (Box<dyn Write>, String) = match &args.output {
            None => (Box::new(io::stdout()), "standard output".to_owned()),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path);
                let file = file.with_context(|| {
                    format!("can't create {name}: choose another file with -o FILE")
                })?;
                (Box::new(file), name)
            }
        };
        let pcap = (args.format == Format::Pcap).then(Pcap::default);
        let mut recording = Self { out, name, pcap };
        if recording.pcap.is_some() {
            recording.put(&Pcap::header())?;
        }
        Ok(recording)
    }

    /// Writes a message whole, so that an interrupted recording is valid. Returns whether the
    /// reader of standard output is still there.
    fn write(&mut self, message: &CapturedMessage) -> anyhow::Result<bool> {
        let octets = match &mut self.pcap {
            Some(pcap) => pcap.packets(message),
            None => mrt(message),
        };
        self.put(&octets)
    }

    fn put(&mut self, octets: &[u8]) -> anyhow::Result<bool> {
        match self.out.write_all(octets).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            result => {
                let written = result.map(|()| true);
                written.with_context(|| format!("can't write to {}", self.name))
            }
        }
    }
}
