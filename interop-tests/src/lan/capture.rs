//! Frames on the LAN: `tcpdump` on the switch, and `tcpreplay` to send them again.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::host::{Host, Mac, UPLINK};
use super::switch::Switch;
use crate::process::{Process, run};
use crate::scenario::Scratch;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Octets before the first frame of a file, and before each frame.
const FILE_HEADER: usize = 24;
const FRAME_HEADER: usize = 16;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures the frames that reach the switch and match a filter of `tcpdump`. Each frame
    /// appears once.
    ///
    /// # Errors
    /// When `tcpdump` rejects the filter.
    pub fn start(scratch: &Scratch, switch: Switch<'_>, name: &str, filter: &str) -> Result<Self> {
        let file = scratch.file(&format!("{name}.pcap"));
        let mut command = switch.0.command("tcpdump");
        // -Z root: else it can't write into the scratch folder. -U: frames are written at once.
        command.args(["-i", "rack", "-n", "-U", "-Z", "root", "-w"]);
        command.arg(&file).arg(filter);
        let process = Process::start(scratch, &format!("tcpdump-{name}"), &command)?;
        process.await_log(&["listening on"], TIMEOUT)?;
        Ok(Self { process, file })
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// When `tcpdump` does not end.
    pub fn stop(mut self) -> Result<Captured> {
        self.process.terminate(TIMEOUT)?;
        Ok(Captured { file: self.file })
    }
}

/// The frames of a capture.
#[derive(Debug)]
pub struct Captured {
    file: PathBuf,
}

/// A frame in the words of `tcpdump`.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Seconds since 1970.
    pub at: f64,
    /// The source of the Ethernet header.
    pub source: Mac,
    /// All else.
    pub text: String,
}

impl Frame {
    /// "1700000000.123456 02:00:5e:00:53:01 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), …"
    fn parse(line: &str) -> Result<Self> {
        let parse = || {
            let (at, rest) = line.split_once(' ')?;
            let (source, text) = rest.split_once(" > ")?;
            Some((at.parse().ok()?, source.parse().ok()?, text.to_owned()))
        };
        let (at, source, text) = parse().with_context(|| format!("tcpdump printed: {line}"))?;
        Ok(Self { at, source, text })
    }

    /// Whether it is an ARP probe (RFC 5227 §2.1.1): its sender has the address 0.0.0.0.
    #[must_use]
    pub fn is_arp_probe(&self) -> bool {
        self.text.contains("tell 0.0.0.0")
    }

    /// Whether it makes hosts send packets for this address to its sender: an answer or an
    /// unsolicited announcement.
    #[must_use]
    pub fn claims(&self, address: IpAddr) -> bool {
        let has = |words: String| self.text.contains(&words);
        match address {
            // A target Ethernet address other than zero follows in brackets.
            IpAddr::V4(_) => {
                has(format!("Reply {address} is-at"))
                    || has(format!("who-has {address} ")) && has(format!("tell {address},"))
            }
            IpAddr::V6(_) => has(format!("neighbor advertisement, tgt is {address},")),
        }
    }
}

impl Captured {
    /// The frames, oldest first.
    ///
    /// # Errors
    /// When `tcpdump` fails.
    pub fn frames(&self) -> Result<Vec<Frame>> {
        self.frames_of("")
    }

    /// The frames that match a filter of `tcpdump`.
    ///
    /// # Errors
    /// When `tcpdump` rejects the filter.
    pub fn frames_of(&self, filter: &str) -> Result<Vec<Frame>> {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-tt", "-e", "-n", "-r"]).arg(&self.file);
        let text = run(tcpdump.arg(filter))?;
        // Lines of details are indented.
        let lines = text.lines().filter(|line| !line.starts_with([' ', '\t']));
        lines.map(Frame::parse).collect()
    }

    /// A copy whose frames have another last octet of their payload, and correct checksums.
    ///
    /// # Errors
    /// When the file has another format than `tcpdump` writes.
    pub fn forged(&self) -> Result<Self> {
        let mut octets = fs::read(&self.file)?;
        let mut at = FILE_HEADER;
        let mut frames = 0;
        while at < octets.len() {
            let header = octets.get(at..at + FRAME_HEADER).context("no header")?;
            let length = u32::from_le_bytes(header[8..12].try_into()?);
            at += FRAME_HEADER + usize::try_from(length)?;
            *octets.get_mut(at - 1).context("a frame is cut off")? ^= 0xff;
            frames += 1;
        }
        ensure!(frames > 0, "nothing was captured");
        let file = self.file.with_extension("forged.pcap");
        fs::write(&file, octets)?;
        Ok(Self {
            file: rewrite(&file, &["--fixcsum"])?,
        })
    }

    /// Sends the frames from a host, with its own Ethernet address as their source: else the switch
    /// would move the addresses of their senders to its port.
    ///
    /// # Errors
    /// When `tcpreplay` fails.
    pub fn replay(&self, host: &Host) -> Result<()> {
        let source = format!("--enet-smac={}", super::mac(&host.namespace)?);
        let file = rewrite(&self.file, &[&source])?;
        let mut tcpreplay = host.namespace.command("tcpreplay");
        tcpreplay.args(["--intf1", UPLINK]).arg(file);
        run(&mut tcpreplay).map(drop)
    }
}

/// The file that `tcprewrite` makes of another one.
fn rewrite(file: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let rewritten = file.with_extension("rewritten.pcap");
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    run(Command::new("tcprewrite")
        .args(arguments)
        .arg(option("infile", file))
        .arg(option("outfile", &rewritten)))?;
    Ok(rewritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_and_announcements_of_an_address_claim_it() {
        let claims = |text: &str, address: &str| {
            let line = format!("1700000000.1 02:00:5e:00:53:01 > ff:ff:ff:ff:ff:ff, {text}");
            let frame = Frame::parse(&line).unwrap();
            assert_eq!(frame.source.to_string(), "02:00:5e:00:53:01");
            frame.claims(address.parse().unwrap())
        };
        let announced = "Request who-has 10.99.0.2 (ff:ff:ff:ff:ff:ff) tell 10.99.0.2, length 28";
        assert!(claims(announced, "10.99.0.2"));
        assert!(claims(
            "Reply 10.99.0.2 is-at 02:00:5e:00:53:01, length 28",
            "10.99.0.2"
        ));
        let asked = "Request who-has 10.99.0.2 tell 10.99.0.20, length 28";
        assert!(!claims(asked, "10.99.0.2") && !claims(asked, "10.99.0.20"));
        let probe = "Request who-has 10.99.0.2 tell 0.0.0.0, length 28";
        assert!(!claims(probe, "10.99.0.2"));
        let icmp = "fd99::2 > ff02::1: ICMP6, neighbor advertisement, tgt is fd99::2, length 32";
        assert!(claims(icmp, "fd99::2"));
        assert!(!claims(icmp, "fd99::20"));
    }
}
