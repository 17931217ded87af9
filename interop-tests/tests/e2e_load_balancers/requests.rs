//! Requests to a Service from a host of the lab, over TCP and UDP.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::netns::Namespace;

/// Longer than kube-proxy, ferrolb and the router take on a loaded machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);
/// A request without an answer after this time is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests in a row that must have the same outcome. That none of 20 reaches one of two Pods, or
/// one of four, happens rarely enough, and is then tried again.
const REQUESTS: usize = 20;
/// Requests in a row that must be lost or refused.
const REFUSED_REQUESTS: usize = 3;

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The name in a Service.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A port of an address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    protocol: Protocol,
    to: SocketAddr,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.protocol.name(), self.to)
    }
}

impl Target {
    pub(crate) const fn new(protocol: Protocol, address: IpAddr, port: u16) -> Self {
        let to = SocketAddr::new(address, port);
        Self { protocol, to }
    }

    pub(crate) const fn tcp(address: IpAddr, port: u16) -> Self {
        Self::new(Protocol::Tcp, address, port)
    }
}

/// The answer of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The name of the Pod.
    pub(crate) pod: String,
    /// The client's address, as the Pod saw it.
    pub(crate) seen_as: IpAddr,
}

/// Reads the line that `lab-traffic serve` sends.
fn parse(line: &str) -> io::Result<Answer> {
    let words = line.trim_end().split_once(' ');
    let answer = words.and_then(|(pod, seen_as)| {
        let (pod, seen_as) = (pod.to_owned(), seen_as.parse().ok()?);
        Some(Answer { pod, seen_as })
    });
    answer.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("answer {line:?}")))
}

/// A client's end of a flow of datagrams, with one source port.
#[derive(Debug)]
pub(crate) struct Flow(UdpSocket);

impl Flow {
    pub(crate) fn new(from: &Namespace, to: SocketAddr) -> Result<Self> {
        from.open()?.inside(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(Self(socket))
        })
    }

    /// Sends a datagram, and waits for an answer.
    pub(crate) fn ask(&self) -> io::Result<Answer> {
        self.0.send(b"?")?;
        let mut octets = [0; 256];
        let length = self.0.recv(&mut octets)?;
        parse(&String::from_utf8_lossy(&octets[..length]))
    }
}

fn ask_tcp(to: SocketAddr) -> io::Result<Answer> {
    let connection = TcpStream::connect_timeout(&to, ANSWER_TIMEOUT)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line)?;
    parse(&line)
}

/// Makes one request. The outer error is the lab's.
fn ask(from: &Namespace, target: Target) -> Result<io::Result<Answer>> {
    match target.protocol {
        Protocol::Tcp => from.open()?.inside(|| Ok(ask_tcp(target.to))),
        Protocol::Udp => Ok(Flow::new(from, target.to)?.ask()),
    }
}

/// Waits until several requests in a row are answered, and `check` accepts their answers.
pub(crate) fn await_answers(
    from: &Namespace,
    target: Target,
    check: impl Fn(&[Answer]) -> Result<()>,
) -> Result<()> {
    eventually(format!("answers at {target}"), TIMEOUT, || {
        let mut answers = Vec::new();
        for _ in 0..REQUESTS {
            answers.push(ask(from, target)?.with_context(|| format!("after {answers:?}"))?);
        }
        check(&answers)
    })
}

/// Accepts answers of any Pods.
pub(crate) fn any(_: &[Answer]) -> Result<()> {
    Ok(())
}

/// Accepts answers of exactly these Pods, each of which must have answered.
pub(crate) fn exactly(pods: &[&str]) -> impl Fn(&[Answer]) -> Result<()> {
    move |answers| {
        let mut found: Vec<&str> = answers.iter().map(|answer| answer.pod.as_str()).collect();
        found.sort_unstable();
        found.dedup();
        ensure!(found == pods, "{found:?} answer, not {pods:?}");
        Ok(())
    }
}

/// Accepts answers of Pods that saw this address.
pub(crate) fn seen_as(address: IpAddr) -> impl Fn(&[Answer]) -> Result<()> {
    move |answers| {
        let other = answers.iter().find(|answer| answer.seen_as != address);
        ensure!(other.is_none(), "the client is {address}: {other:?}");
        Ok(())
    }
}

/// Waits until several requests in a row are rejected by ICMP or by a reset.
pub(crate) fn await_rejected(from: &Namespace, target: Target) -> Result<()> {
    eventually(format!("{target} rejects"), TIMEOUT, || {
        for _ in 0..REFUSED_REQUESTS {
            match ask(from, target)? {
                Ok(answer) => bail!("{answer:?}"),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error).context("not rejected"),
            }
        }
        Ok(())
    })
}

/// Waits until several requests in a row have no answer, whether they are rejected or lost.
pub(crate) fn await_closed(from: &Namespace, target: Target) -> Result<()> {
    eventually(format!("{target} is closed"), TIMEOUT, || {
        for _ in 0..REFUSED_REQUESTS {
            if let Ok(answer) = ask(from, target)? {
                bail!("{answer:?}");
            }
        }
        Ok(())
    })
}

/// The status of the response to `GET /healthz`, as a load balancer checks a node's health.
pub(crate) fn health(from: &Namespace, node: IpAddr, port: u16) -> Result<io::Result<u16>> {
    from.open()?
        .inside(|| Ok(get_healthz(SocketAddr::new(node, port))))
}

fn get_healthz(to: SocketAddr) -> io::Result<u16> {
    let mut connection = TcpStream::connect_timeout(&to, ANSWER_TIMEOUT)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    let status = response.split_whitespace().nth(1);
    let status = status.and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, response))
}
