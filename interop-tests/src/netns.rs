//! Hosts as network namespaces, wired with veth pairs and bridges.

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

/// All of our namespaces start with this, then the pid of the test process.
const PREFIX: &str = "ferrolb";

/// A one-shot command that takes longer than this (seconds) hangs.
const COMMAND_TIMEOUT: &str = "60";

/// Set in every namespace before it has links, so that links inherit them: it routes, addresses are
/// usable at once (no duplicate address detection), nothing is learnt from router advertisements,
/// replies may take another path than requests, and multipath hashes ports too (one client's
/// connections spread).
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

/// A host: a network namespace with a name that is unique on this machine. Dropping it ends what
/// runs inside and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace `ferrolb-PID-N-NAME` with its loopback up and the lab's sysctls set.
    ///
    /// # Errors
    /// When `ip` or `sysctl` fails, most likely for want of root.
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

    /// The full, unique name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. `nsenter` rather than `ip netns exec`: the latter mounts a
    /// fresh `/sys`, in which a container runtime misses its cgroups.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a short command inside, at most 60 s, and gives its stdout.
    ///
    /// # Errors
    /// When it fails, with its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self
            .command("timeout")
            .args([COMMAND_TIMEOUT, program])
            .args(arguments))
    }

    /// As [`Namespace::run`], with stdout read as JSON.
    ///
    /// # Errors
    /// When it fails or prints something else than JSON.
    pub fn json(&self, program: &str, arguments: &[&str]) -> Result<Value> {
        let text = self.run(program, arguments)?;
        // iproute2 prints nothing at all for an empty list in some of its commands.
        if text.trim().is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{program} {arguments:?} printed: {text}"))
    }

    /// Runs `ip -n NAME …`.
    ///
    /// # Errors
    /// When it fails, with its message.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Sets sysctls, each as `key=value`.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        self.run("sysctl", &[&["-qw"], settings].concat()).map(drop)
    }

    /// Gives an interface an address with prefix length (`10.99.1.1/24`, `fd99:1::1/64`).
    ///
    /// # Errors
    /// When there is no such interface or the address is malformed or there already.
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
    /// When the kernel refuses it.
    pub fn route(&self, prefix: &str, via: &str) -> Result<()> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", prefix, "via", via])
            .map(drop)
    }

    /// Makes a bridge, up. At most 15 characters, as for every interface.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn bridge(&self, name: &str) -> Result<()> {
        // A bridge without an address of its own takes the lowest of its ports', so a new port may change it, and who
        // has the old one in its ARP cache gets no answer any more. One per LAN: so one for all.
        let address = ["address", "02:00:00:00:00:01"];
        self.ip(&[&["link", "add", name], &address[..], &["type", "bridge"]].concat())?;
        self.ip(&["link", "set", name, "up"]).map(drop)
    }

    /// Makes an interface a port of a bridge of this namespace.
    ///
    /// # Errors
    /// When one of the two isn't there.
    pub fn attach(&self, interface: &str, bridge: &str) -> Result<()> {
        self.ip(&["link", "set", interface, "master", bridge])
            .map(drop)
    }

    /// The kernel's routes for exactly this prefix, as `ip -j route show` gives them.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn kernel_routes(&self, prefix: &str) -> Result<Value> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        self.json("ip", &[family, "-j", "route", "show", "exact", prefix])
    }

    /// Where the kernel forwards exactly this prefix to; empty when it has no such route.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn kernel_next_hops(&self, prefix: &str) -> Result<BTreeSet<IpAddr>> {
        Ok(self.kernel_weights(prefix)?.into_keys().collect())
    }

    /// The same with each next hop's weight.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn kernel_weights(&self, prefix: &str) -> Result<BTreeMap<IpAddr, u64>> {
        let routes = self.kernel_routes(prefix)?;
        let mut next_hops = BTreeMap::new();
        for route in routes.as_array().into_iter().flatten() {
            // One next hop stands in the route itself, several in a list of their own.
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
    /// When the kernel refuses, most likely because the process isn't root.
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

/// Ends what runs in a namespace and deletes it.
fn remove(name: &str) -> Result<()> {
    for pid in pids(name)? {
        // It may have ended meanwhile.
        let _ = signal_pid("KILL", pid);
    }
    run(Command::new("ip").args(["netns", "del", name])).map(drop)
}

/// Removes the namespaces of test processes that are no more (killed, or ended by Ctrl-C).
///
/// # Errors
/// When a left-over namespace can't be removed.
pub fn sweep() -> Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(()); // no namespace was ever made
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(pid) = owner(&name) else { continue };
        // A zombie is in /proc still, but has no program.
        if fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            remove(&name)?;
        }
    }
    Ok(())
}

/// The pid of the test process that made a namespace; none for other people's namespaces.
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
    /// Joins `a` and `b`, both ends up. Interface names have at most 15 characters; `up` and `dev`
    /// are words of `ip`.
    ///
    /// # Errors
    /// When the kernel refuses it, for example because a name is taken.
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

    /// From now on every frame is lost in both directions, ARP too, and nobody is told: the carrier
    /// stays. As a broken switch between the two would do.
    ///
    /// # Errors
    /// When `nft` fails, for example because the link is cut already.
    pub fn cut(&self) -> Result<()> {
        self.ends.iter().try_for_each(cut)
    }

    /// As [`Link::cut`], in one direction only: what would arrive in this namespace is lost.
    ///
    /// # Errors
    /// When `nft` fails, or the link doesn't end there.
    pub fn cut_towards(&self, namespace: &Namespace) -> Result<()> {
        let end = self.ends.iter().find(|(name, _)| *name == namespace.name);
        cut(end.with_context(|| format!("no end in {}", namespace.name))?)
    }

    /// Undoes [`Link::cut`] and [`Link::cut_towards`].
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn mend(&self) -> Result<()> {
        for (namespace, interface) in &self.ends {
            // Added first, so that there is one to delete.
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

/// The table that cuts an interface. The prefix keeps it apart from words of nft's language.
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
    fn only_our_namespaces_have_an_owner() {
        assert_eq!(owner("ferrolb-4711-0-tor"), Some(4711));
        assert_eq!(owner("cni-4711"), None);
        assert_eq!(owner("ferrolb-tor"), None);
    }
}
