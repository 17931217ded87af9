//! The compared daemons: how each is configured and started, and how its routes are changed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Process, run};
use ferrolb_interop_tests::scenario::Scratch;
use ipnet::IpNet;

use super::load::{DAEMON_ASN, DAEMON4, Load, changed};
use super::{mrt, responder, sink};

/// Names the folder with the programs of the current GoBGP, which `cargo xtask bench` builds.
const GOBGP4_FOLDER: &str = "GOBGP4_FOLDER";

/// Longer than any daemon needs to open its control socket.
const START: Duration = Duration::from_secs(120);

/// A compared daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ferrolb,
    Bird,
    Frr,
    Gobgp,
    /// The current GoBGP; [`Kind::Gobgp`] is Debian's.
    Gobgp4,
    Exabgp,
    Openbgpd,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ferrolb,
        Self::Bird,
        Self::Frr,
        Self::Gobgp,
        Self::Gobgp4,
        Self::Exabgp,
        Self::Openbgpd,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ferrolb => "ferrolb",
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
            Self::Gobgp4 => "GoBGP-4",
            Self::Exabgp => "ExaBGP",
            Self::Openbgpd => "OpenBGPD",
        }
    }

    /// Version of its Debian package; of GoBGP 4 the one that the program prints.
    pub(crate) fn version(self) -> Result<String> {
        let package = match self {
            Self::Ferrolb => return Ok("this commit".to_owned()),
            Self::Bird => "bird2",
            Self::Frr => "frr",
            Self::Gobgp => "gobgpd",
            Self::Gobgp4 => {
                let version = run(Command::new(self.program("gobgpd")?).arg("--version"))?;
                let version = version.trim();
                return Ok(version
                    .strip_prefix("gobgpd version ")
                    .unwrap_or(version)
                    .to_owned());
            }
            Self::Exabgp => "exabgp",
            Self::Openbgpd => "openbgpd",
        };
        run(Command::new("dpkg-query").args(["-W", "-f=${Version}", package]))
    }

    /// A program of the daemon: the path of GoBGP 4's, else the name of Debian's.
    fn program(self, name: &str) -> Result<String> {
        if self != Self::Gobgp4 {
            return Ok(name.to_owned());
        }
        let folder = std::env::var(GOBGP4_FOLDER)
            .with_context(|| format!("{GOBGP4_FOLDER} is not set: run cargo xtask bench bgp"))?;
        Ok(format!("{folder}/{name}"))
    }

    /// Whether the daemon can load and send this table within minutes.
    pub(crate) fn can_load(self, load: Load) -> bool {
        let total = u64::from(load.peers) * u64::from(load.routes);
        match self {
            Self::Ferrolb | Self::Bird | Self::Frr => true,
            Self::Gobgp | Self::Gobgp4 => load.routes <= 100_000 && load.is_ipv4(),
            Self::Exabgp => total <= 100_000,
            Self::Openbgpd => total <= 10_000,
        }
    }
}

/// A running daemon. Dropping it kills all its processes.
pub(crate) struct Running<'lab> {
    kind: Kind,
    load: Load,
    namespace: &'lab Namespace,
    scratch: &'lab Scratch,
    daemons: Vec<Process>,
    api: Api,
}

/// How routes are changed at run time.
enum Api {
    /// Lines written to a FIFO.
    Fifo(File),
    /// A control socket.
    Socket(UnixStream),
    /// One call of a client program per change.
    Program,
}

impl<'lab> Running<'lab> {
    /// Starts a daemon. It may still be loading its table when this returns.
    pub(crate) fn start(
        kind: Kind,
        load: Load,
        namespace: &'lab Namespace,
        scratch: &'lab Scratch,
    ) -> Result<Self> {
        let mut running = Self {
            kind,
            load,
            namespace,
            scratch,
            daemons: Vec::new(),
            api: Api::Program,
        };
        running.launch().with_context(|| kind.name())?;
        Ok(running)
    }

    fn launch(&mut self) -> Result<()> {
        match self.kind {
            Kind::Ferrolb => self.ferrolb(),
            Kind::Bird => self.bird(),
            Kind::Frr => self.frr(),
            Kind::Gobgp | Kind::Gobgp4 => self.gobgp(),
            Kind::Exabgp => self.exabgp(),
            Kind::Openbgpd => self.openbgpd(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.file(&format!("{}-{name}", self.kind.name()))
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.file(name);
        fs::write(&path, text)?;
        // OpenBGPD rejects a configuration that others can read.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn run_daemon(&mut self, name: &str, command: &Command) -> Result<()> {
        let name = format!("{}-{name}", self.kind.name());
        self.daemons
            .push(Process::start(self.scratch, &name, command)?);
        Ok(())
    }

    /// Creates a FIFO and opens it for writing, so that its reader never reaches the end.
    fn fifo(&self) -> Result<(String, File)> {
        let path = self.file("fifo");
        drop(fs::remove_file(&path));
        run(Command::new("mkfifo").arg(&path))?;
        let file = File::options().read(true).write(true).open(&path)?;
        Ok((path.to_string_lossy().into_owned(), file))
    }

    fn ferrolb(&mut self) -> Result<()> {
        let (path, file) = self.fifo()?;
        let program = std::env::current_exe()?;
        let mut command = if self.load.bfd.is_none_or(|bfd| bfd.real_time) {
            self.namespace.command(program)
        } else {
            // Without CAP_SYS_NICE, as in a container without capabilities.
            let mut command = self.namespace.command("setpriv");
            command.args(["--bounding-set", "-sys_nice", "--"]);
            command.arg(program);
            command
        };
        let sessions = self.load.bfd.map_or(0, |bfd| bfd.sessions);
        command.args(["--speaker", &path]);
        command.args([self.load.peers, self.load.routes].map(|number| number.to_string()));
        command.arg(if self.load.is_ipv4() { "4" } else { "6" });
        command.arg(sessions.to_string());
        self.run_daemon("speaker", &command)?;
        self.api = Api::Fifo(file);
        Ok(())
    }

    fn bird(&mut self) -> Result<()> {
        let channel = if self.load.is_ipv4() { "ipv4" } else { "ipv6" };
        let mut text = "log stderr all;\nrouter id 10.255.0.1;\nprotocol device {}\n".to_owned();
        let statics = [
            ("whole", "", self.load.prefixes().collect::<Vec<_>>()),
            (
                "one",
                "disabled;",
                changed(self.load.is_ipv4(), 0..1).collect(),
            ),
            (
                "burst",
                "disabled;",
                changed(self.load.is_ipv4(), 1..BURST + 1).collect(),
            ),
        ];
        for (name, state, prefixes) in statics {
            writeln!(text, "protocol static {name} {{ {state} {channel};")?;
            for prefix in prefixes {
                writeln!(text, "route {prefix} blackhole;")?;
            }
            text.push_str("}\n");
        }
        for (index, address) in self.load.addresses().iter().enumerate() {
            writeln!(
                text,
                "protocol bgp p{index} {{ local {} as {DAEMON_ASN}; neighbor {address} as {}; \
                 hold time {}; connect delay time 1; connect retry time 1; error wait time 1,1; \
                 {channel} {{ import none; export all; next hop self; }}; }}",
                self.load.daemon_address(),
                sink::ASN.0,
                sink::HOLD_TIME,
            )?;
        }
        if self.load.bfd.is_some() {
            let milliseconds = responder::INTERVAL_MS;
            let multiplier = responder::TIMERS.detect_mult;
            writeln!(
                text,
                "protocol bfd {{ interface \"*\" {{ interval {milliseconds} ms; \
                 multiplier {multiplier}; }};"
            )?;
            for address in self.load.bfd_addresses() {
                let local = self.load.daemon_address();
                writeln!(text, "neighbor {address} dev \"uplink\" local {local};")?;
            }
            text.push_str("}\n");
        }
        let path = self.write("conf", &text)?;
        let control = self.file("ctl");
        drop(fs::remove_file(&control));
        let mut command = self.namespace.command("bird");
        command.args(["-f", "-c", &path, "-s"]).arg(&control);
        self.run_daemon("bird", &command)?;
        let socket = eventually("BIRD's socket", START, || {
            self.ensure_running()?;
            UnixStream::connect(&control).map_err(anyhow::Error::from)
        })?;
        self.api = Api::Socket(socket);
        self.answer(b"0001 ").map(drop)
    }

    fn frr(&mut self) -> Result<()> {
        let name = self.namespace.name();
        for base in ["/etc/frr", "/var/run/frr"] {
            let folder = format!("{base}/{name}");
            fs::create_dir_all(&folder)?;
            run(Command::new("chown").args(["frr:frr", &folder]))?;
        }
        let family = if self.load.is_ipv4() { "ipv4" } else { "ipv6" };
        let mut text = format!(
            "router bgp {DAEMON_ASN}\n bgp router-id 10.255.0.1\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n no bgp network import-check\n"
        );
        let addresses = self.load.addresses();
        for address in &addresses {
            let hold = sink::HOLD_TIME;
            writeln!(text, " neighbor {address} remote-as {}", sink::ASN.0)?;
            writeln!(text, " neighbor {address} timers {} {hold}", hold / 3)?;
            writeln!(text, " neighbor {address} timers connect 1")?;
        }
        writeln!(text, " address-family {family} unicast")?;
        for prefix in self.load.prefixes() {
            writeln!(text, "  network {prefix}")?;
        }
        for address in &addresses {
            writeln!(text, "  neighbor {address} activate")?;
        }
        text.push_str(" exit-address-family\n");
        let path = self.write("conf", &text)?;
        run(Command::new("chown").args(["frr:frr", &path]))?;
        let bfd = self.write("bfd-conf", &self.frr_bfd()?)?;
        run(Command::new("chown").args(["frr:frr", &bfd]))?;
        // The user frr must be able to enter the folder.
        run(Command::new("chmod").arg("755").arg(self.scratch.path()))?;
        let socket = |program: &str| format!("/var/run/frr/{name}/{program}.vty");
        let bfdd = self.load.bfd.map(|_| "bfdd");
        for program in ["zebra"].into_iter().chain(bfdd).chain(["bgpd"]) {
            drop(fs::remove_file(socket(program)));
            let mut command = self.namespace.command(format!("/usr/lib/frr/{program}"));
            command.args([
                "-N",
                name,
                "-u",
                "frr",
                "-g",
                "frr",
                "-A",
                "127.0.0.1",
                "-P",
                "0",
            ]);
            command.args(["--log", "stdout", "--log-level", "warnings"]);
            match program {
                "bgpd" => drop(command.args(["-f", &path])),
                "bfdd" => drop(command.args(["-f", &bfd])),
                _ => {}
            }
            self.run_daemon(program, &command)?;
            eventually("FRR's socket", START, || {
                UnixStream::connect(socket(program))
            })?;
        }
        self.api = Api::Socket(UnixStream::connect(socket("bgpd"))?);
        let lines = [
            "enable".to_owned(),
            "configure terminal".to_owned(),
            format!("router bgp {DAEMON_ASN}"),
            format!("address-family {family} unicast"),
        ];
        lines.iter().try_for_each(|line| self.vty(line))
    }

    fn frr_bfd(&self) -> Result<String> {
        let mut text = "bfd\n".to_owned();
        for address in self.load.bfd_addresses() {
            let local = self.load.daemon_address();
            let milliseconds = responder::INTERVAL_MS;
            let multiplier = responder::TIMERS.detect_mult;
            writeln!(
                text,
                " peer {address} local-address {local} interface uplink\n  \
                 detect-multiplier {multiplier}\n  \
                 receive-interval {milliseconds}\n  transmit-interval {milliseconds}\n exit"
            )?;
        }
        Ok(text)
    }

    fn gobgp(&mut self) -> Result<()> {
        let mut text =
            format!("[global.config]\nas={DAEMON_ASN}\nrouter-id=\"10.255.0.1\"\nport=-1\n");
        let family = if self.load.is_ipv4() {
            "ipv4-unicast"
        } else {
            "ipv6-unicast"
        };
        for address in self.load.addresses() {
            writeln!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address=\"{address}\"\npeer-as={}\n\
                 [neighbors.transport.config]\nlocal-address=\"{}\"\n\
                 [neighbors.timers.config]\nconnect-retry=1\nhold-time={}\n\
                 idle-hold-time-after-reset=1\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name=\"{family}\"",
                sink::ASN.0,
                self.load.daemon_address(),
                sink::HOLD_TIME,
            )?;
        }
        let path = self.write("toml", &text)?;
        let mut command = self.namespace.command(self.kind.program("gobgpd")?);
        command.args([
            "-f",
            &path,
            "-p",
            "--api-hosts=127.0.0.1:50051",
            "--pprof-disable",
        ]);
        self.run_daemon("gobgpd", &command)?;
        let client = self.kind.program("gobgp")?;
        eventually("GoBGP's API", START, || {
            self.namespace.run(&client, &["global"])
        })?;
        let table: Vec<IpNet> = self.load.prefixes().collect();
        self.inject(&table)
    }

    /// Loads routes from an MRT file, the fastest way with GoBGP's client.
    fn inject(&self, prefixes: &[IpNet]) -> Result<()> {
        let path = self.file("mrt");
        fs::write(&path, mrt::table(prefixes, DAEMON4))?;
        let path = path.to_string_lossy();
        self.namespace
            .run(
                &self.kind.program("gobgp")?,
                &["mrt", "inject", "global", &path],
            )
            .map(drop)
    }

    fn exabgp(&mut self) -> Result<()> {
        let (path, file) = self.fifo()?;
        let mut text = format!("process api {{ run /bin/cat {path}; encoder text; }}\n");
        let family = if self.load.is_ipv4() { "ipv4" } else { "ipv6" };
        let next_hop = self.load.daemon_address();
        for address in self.load.addresses() {
            writeln!(
                text,
                "neighbor {address} {{ router-id 10.255.0.1; local-address {next_hop}; \
                 local-as {DAEMON_ASN}; peer-as {}; hold-time {}; family {{ {family} unicast; }} \
                 api {{ processes [ api ]; }} static {{",
                sink::ASN.0,
                sink::HOLD_TIME,
            )?;
            for prefix in self.load.prefixes() {
                writeln!(text, "route {prefix} next-hop {next_hop};")?;
            }
            text.push_str("} }\n");
        }
        let path = self.write("conf", &text)?;
        let mut command = self.namespace.command("exabgp");
        command.arg(&path).env("exabgp.daemon.user", "root");
        command
            .env("exabgp.api.cli", "false")
            .env("exabgp.api.ack", "false");
        self.run_daemon("exabgp", &command)?;
        self.api = Api::Fifo(file);
        Ok(())
    }

    fn openbgpd(&mut self) -> Result<()> {
        fs::create_dir_all("/run/openbgpd")?;
        let mut text = format!(
            "AS {DAEMON_ASN}\nrouter-id 10.255.0.1\nfib-update no\nconnect-retry 1\n\
             socket \"{}\"\nallow to any\n",
            self.file("sock").display()
        );
        for prefix in self.load.prefixes() {
            writeln!(text, "network {prefix}")?;
        }
        for address in self.load.addresses() {
            let family = if self.load.is_ipv4() { "IPv4" } else { "IPv6" };
            writeln!(
                text,
                "neighbor {address} {{\n remote-as {}\n announce IPv4 none\n announce {family} \
                 unicast\n holdtime {}\n}}",
                sink::ASN.0,
                sink::HOLD_TIME
            )?;
        }
        let path = self.write("conf", &text)?;
        let mut command = self.namespace.command("bgpd");
        command.args(["-d", "-f", &path]);
        self.run_daemon("bgpd", &command)
    }

    /// Announces or withdraws the changes with these numbers; a single change has number 0. Returns
    /// when the daemon has accepted them, as far as its API reports that.
    pub(crate) fn change(&mut self, range: Range<u32>, announce: bool) -> Result<()> {
        let prefixes: Vec<IpNet> = changed(self.load.is_ipv4(), range.clone()).collect();
        match self.kind {
            Kind::Ferrolb => {
                let sign = if announce { '+' } else { '-' };
                self.fifo_line(&format!("{sign} {} {}\n", range.start, range.len()))
            }
            Kind::Bird => {
                let verb = if announce { "enable" } else { "disable" };
                let name = if range.len() == 1 { "one" } else { "burst" };
                self.socket()?
                    .write_all(format!("{verb} {name}\n").as_bytes())?;
                self.answer(b"\n00").map(drop)
            }
            Kind::Frr => {
                let no = if announce { "" } else { "no " };
                prefixes
                    .iter()
                    .try_for_each(|prefix| self.vty(&format!("{no}network {prefix}")))
            }
            Kind::Gobgp | Kind::Gobgp4 => {
                if announce && prefixes.len() > 1 {
                    return self.inject(&prefixes);
                }
                let verb = if announce { "add" } else { "del" };
                for prefix in prefixes {
                    let next_hop = self.load.daemon_address().to_string();
                    let route = ["global", "rib", verb, &prefix.to_string()];
                    let with = ["nexthop", &next_hop];
                    let with = if announce { &with[..] } else { &[] };
                    let client = self.kind.program("gobgp")?;
                    self.namespace.run(&client, &[&route, with].concat())?;
                }
                Ok(())
            }
            Kind::Exabgp => {
                let verb = if announce { "announce" } else { "withdraw" };
                let next_hop = self.load.daemon_address();
                let line = |prefix| format!("{verb} route {prefix} next-hop {next_hop}\n");
                let lines: String = prefixes.iter().map(line).collect();
                self.fifo_line(&lines)
            }
            Kind::Openbgpd => {
                let verb = if announce { "add" } else { "delete" };
                let socket = self.file("sock").to_string_lossy().into_owned();
                let list: String = prefixes
                    .iter()
                    .map(|prefix| format!("{prefix}\n"))
                    .collect();
                let list = self.write("bulk", &list)?;
                let script = format!("bgpctl -s \"$1\" network bulk {verb} < \"$2\"");
                self.namespace
                    .run("sh", &["-c", &script, "sh", &socket, &list])
                    .map(drop)
            }
        }
    }

    fn fifo_line(&mut self, lines: &str) -> Result<()> {
        let Api::Fifo(file) = &mut self.api else {
            anyhow::bail!("no FIFO");
        };
        file.write_all(lines.as_bytes()).map_err(Into::into)
    }

    fn socket(&mut self) -> Result<&mut UnixStream> {
        match &mut self.api {
            Api::Socket(socket) => Ok(socket),
            _ => anyhow::bail!("no control socket"),
        }
    }

    /// Sends a line to FRR. The reply ends with three zero octets and the status.
    fn vty(&mut self, line: &str) -> Result<()> {
        self.socket()?
            .write_all(&[line.as_bytes(), &[0]].concat())?;
        let answer = self.answer(&[0, 0, 0])?;
        ensure!(
            answer.last() == Some(&0),
            "{line}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    /// Reads until `mark` is followed by at least one octet.
    fn answer(&mut self, mark: &[u8]) -> Result<Vec<u8>> {
        let socket = self.socket()?;
        socket.set_read_timeout(Some(START))?;
        let mut answer = vec![b'\n'];
        let mut buffer = [0; 4096];
        loop {
            let length = socket.read(&mut buffer)?;
            ensure!(length > 0, "closed: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..length]);
            let mut windows = answer.windows(mark.len() + 1);
            if windows.any(|window| window.starts_with(mark)) {
                return Ok(answer);
            }
        }
    }

    /// Checks that all processes of the daemon are running.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        self.daemons
            .iter_mut()
            .try_for_each(Process::ensure_running)
    }
}

/// Number of prefixes of a burst of changes.
pub(crate) const BURST: u32 = 10_000;

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Includes its child processes: only the daemon runs in the namespace.
        for pid in self.namespace.pids().unwrap_or_default() {
            drop(ferrolb_interop_tests::process::signal_pid("KILL", pid));
        }
        if self.kind == Kind::Frr {
            for base in ["/etc/frr", "/var/run/frr"] {
                drop(fs::remove_dir_all(format!(
                    "{base}/{}",
                    self.namespace.name()
                )));
            }
        }
    }
}
