//! Hosts as network namespaces, connected by veth pairs and bridges.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::process::{run, signal_pid};

/// The lab's namespaces have this prefix, followed by the pid of the test process.
const PREFIX: &str = "ferrolb";

/// Timeout of a one-shot command in seconds.
const COMMAND_TIMEOUT: &str = "60";

/// Settings of every namespace, made before it has links so that links inherit them: forwarding is
/// on, addresses are usable at once (no duplicate address detection), router advertisements are
/// ignored, asymmetric paths are allowed, and multipath hashes ports too, so that the connections
/// of one client are spread.
const SYSCTLS: &[&str] = &[
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.accept_ra=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.fib_multipath_hash_policy=1",
    "net.ipv6.fib_multipath_hash_policy=1",
];

/// A host: a network namespace with a unique name. Dropping it kills the processes inside and
/// deletes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates the namespace `ferrolb-PID-N-NAME` with its loopback up and the lab's sysctls set.
    ///
    /// # Errors
    /// When `ip` or `sysctl` fails, most likely without root.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            name: format!("{PREFIX}-{}-{unique}-{name}", std::process::id()),
        };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.sysctl(SYSCTLS)?;
        Ok(namespace)
    }

    /// The unique name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside. It uses `nsenter`, because `ip netns exec` mounts a new `/sys`,
    /// in which a container runtime does not find its cgroups.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a command inside, for at most 60 s, and returns its stdout.
    ///
    /// # Errors
    /// When the command fails, with its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self
            .command("timeout")
            .args([COMMAND_TIMEOUT, program])
            .args(arguments))
    }

    /// As [`Namespace::run`]; parses stdout as JSON.
    ///
    /// # Errors
    /// When the command fails or does not print JSON.
    pub fn json(&self, program: &str, arguments: &[&str]) -> Result<Value> {
        let text = self.run(program, arguments)?;
        // Some commands of iproute2 print nothing for an empty list.
        if text.trim().is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{program} {arguments:?} printed: {text}"))
    }

    /// Runs `ip -n NAME …`.
    ///
    /// # Errors
    /// When `ip` fails, with its message.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Sets sysctls, each as `key=value`.
    ///
    /// # Errors
    /// When the kernel rejects one.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        self.run("sysctl", &[&["-qw"], settings].concat()).map(drop)
    }

    /// Adds an address with prefix length (`10.99.1.1/24`, `fd99:1::1/64`) to an interface.
    ///
    /// # Errors
    /// When there is no such interface, or the address is malformed or already assigned.
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let mut arguments = vec!["addr", "add", address, "dev", interface];
        if address.contains(':') {
            arguments.push("nodad");
        }
        self.ip(&arguments).map(drop)
    }

    /// Adds a static route.
    ///
    /// # Errors
    /// When the kernel rejects it.
    pub fn route(&self, prefix: &str, via: &str) -> Result<()> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", prefix, "via", via])
            .map(drop)
    }

    /// Creates a bridge and sets it up. As every interface name, `name` has at most 15 characters.
    ///
    /// # Errors
    /// When the kernel rejects it.
    pub fn bridge(&self, name: &str) -> Result<()> {
        // Without a fixed MAC address a bridge uses the lowest one of its ports. A new port may
        // change it, and hosts with the old one in their ARP cache lose the router. The lab has one
        // bridge per LAN, so all bridges may have the same address.
        let address = ["address", "02:00:00:00:00:01"];
        self.ip(&[&["link", "add", name], &address[..], &["type", "bridge"]].concat())?;
        self.ip(&["link", "set", name, "up"]).map(drop)
    }

    /// Adds an interface to a bridge of this namespace.
    ///
    /// # Errors
    /// When there is no such interface or bridge.
    pub fn attach(&self, interface: &str, bridge: &str) -> Result<()> {
        self.ip(&["link", "set", interface, "master", bridge])
            .map(drop)
    }

    /// The kernel's routes for exactly this prefix, as `ip -j route show` prints them.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn kernel_routes(&self, prefix: &str) -> Result<Value> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        self.json("ip", &[family, "-j", "route", "show", "exact", prefix])
    }

    /// Isolates a port of a bridge: it exchanges no frames with other isolated ports.
    ///
    /// # Errors
    /// When it is no port of a bridge.
    pub fn isolate(&self, port: &str) -> Result<()> {
        self.run("bridge", &["link", "set", "dev", port, "isolated", "on"])
            .map(drop)
    }

    /// The kernel's next hops for exactly this prefix; empty without such a route.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn kernel_next_hops(&self, prefix: &str) -> Result<BTreeSet<IpAddr>> {
        Ok(self.kernel_weights(prefix)?.into_keys().collect())
    }

    /// The kernel's next hops for exactly this prefix, with their weights.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn kernel_weights(&self, prefix: &str) -> Result<BTreeMap<IpAddr, u64>> {
        let routes = self.kernel_routes(prefix)?;
        let mut next_hops = BTreeMap::new();
        for route in routes.as_array().into_iter().flatten() {
            // A single next hop is part of the route, several are in a list.
            let hops = route["nexthops"].as_array();
            for hop in hops.map_or(std::slice::from_ref(route), Vec::as_slice) {
                // An IPv4 route via an IPv6 next hop has `via` instead of `gateway`.
                let address = hop["gateway"].as_str().or(hop["via"]["host"].as_str());
                if let Some(address) = address {
                    let weight = hop["weight"].as_u64().unwrap_or(1);
                    next_hops.insert(address.parse()?, weight);
                }
            }
        }
        Ok(next_hops)
    }

    /// Process ids of all processes inside.
    ///
    /// # Errors
    /// When `ip netns pids` fails.
    pub fn pids(&self) -> Result<Vec<u32>> {
        pids(&self.name)
    }

    /// Opens the namespace for threads of this process.
    ///
    /// # Errors
    /// When the namespace file can't be opened.
    pub fn open(&self) -> Result<NamespaceHandle> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(NamespaceHandle(file))
    }
}

/// A namespace that threads of this process can enter. A socket stays in the namespace in which it
/// was opened.
#[derive(Debug)]
pub struct NamespaceHandle(File);

impl NamespaceHandle {
    /// Runs `work` on a new thread inside the namespace and waits for it.
    ///
    /// # Errors
    /// When the namespace can't be entered, or the error of `work`.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread
                .join()
                .map_err(|_| anyhow!("a thread in the namespace panicked"))?
        })
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// When the kernel rejects it, most likely because the process isn't root.
    pub fn enter(&self) -> Result<()> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.0.as_fd(), kind).context("enter the namespace")
    }

    /// A second handle of the same namespace.
    ///
    /// # Errors
    /// When the process has no free file descriptor.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("cannot remove namespace {}: {error:#}", self.name);
        }
    }
}

fn pids(name: &str) -> Result<Vec<u32>> {
    let text = run(Command::new("ip").args(["netns", "pids", name]))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Kills the processes in a namespace and deletes it.
fn remove(name: &str) -> Result<()> {
    for pid in pids(name)? {
        // Fails if the process has ended meanwhile.
        let _ = signal_pid("KILL", pid);
    }
    run(Command::new("ip").args(["netns", "del", name])).map(drop)
}

/// Deletes the namespaces of test processes that were killed or interrupted.
///
/// # Errors
/// When such a namespace can't be deleted.
pub fn sweep() -> Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(()); // this machine has never had a namespace
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(pid) = owner(&name) else { continue };
        // A zombie still has an entry in /proc, but without a program.
        if fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            remove(&name)?;
        }
    }
    Ok(())
}

/// The pid of the test process that created a namespace; none for namespaces of other programs.
fn owner(namespace: &str) -> Option<u32> {
    let rest = namespace.strip_prefix(PREFIX)?.strip_prefix('-')?;
    rest.split('-').next()?.parse().ok()
}

/// A veth pair between two namespaces.
#[derive(Debug, Clone)]
pub struct Link {
    /// Namespace and interface of both ends.
    ends: [(String, String); 2],
}

impl Link {
    /// Connects `a` and `b`, with both ends up. Interface names have at most 15 characters and must
    /// not be keywords of `ip` such as `up` or `dev`.
    ///
    /// # Errors
    /// When the kernel rejects it, for example because a name is in use.
    pub fn new(a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<Self> {
        run(Command::new("ip")
            .args(["link", "add", a.1, "netns", a.0.name()])
            .args(["type", "veth", "peer", "name", b.1, "netns", b.0.name()]))?;
        for (namespace, interface) in [a, b] {
            namespace.ip(&["link", "set", interface, "up"])?;
        }
        Ok(Self {
            ends: [a, b]
                .map(|(namespace, interface)| (namespace.name().to_owned(), interface.to_owned())),
        })
    }

    /// Drops every frame in both directions, ARP too, while the carrier stays up: a broken switch
    /// between the two ends.
    ///
    /// # Errors
    /// When `nft` fails, for example because the link is already cut.
    pub fn cut(&self) -> Result<()> {
        self.ends.iter().try_for_each(cut)
    }

    /// As [`Link::cut`], for frames towards this namespace only.
    ///
    /// # Errors
    /// When `nft` fails, or the link has no end in this namespace.
    pub fn cut_towards(&self, namespace: &Namespace) -> Result<()> {
        let end = self.ends.iter().find(|(name, _)| *name == namespace.name);
        cut(end.with_context(|| format!("the link has no end in {}", namespace.name))?)
    }

    /// Undoes [`Link::cut`] and [`Link::cut_towards`].
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn restore(&self) -> Result<()> {
        for (namespace, interface) in &self.ends {
            // Adding the table first makes the deletion succeed on an end that is not cut.
            let table = table(interface);
            nft(
                namespace,
                &format!("add table netdev {table}; delete table netdev {table}"),
            )?;
        }
        Ok(())
    }
}

fn cut((namespace, interface): &(String, String)) -> Result<()> {
    let rules = format!(
        "table netdev {table} {{ chain cut {{ type filter hook ingress device {interface} \
         priority -500; policy drop; }}; }}",
        table = table(interface)
    );
    nft(namespace, &rules)
}

/// Name of the table that cuts an interface. The prefix avoids keywords of nft.
fn table(interface: &str) -> String {
    format!("cut_{}", interface.replace(['-', '.'], "_"))
}

fn nft(namespace: &str, rules: &str) -> Result<()> {
    run(Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["--", "nft", rules]))
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_the_lab_have_an_owner() {
        assert_eq!(owner("ferrolb-4711-0-tor"), Some(4711));
        assert_eq!(owner("cni-4711"), None);
        assert_eq!(owner("ferrolb-tor"), None);
    }
}
