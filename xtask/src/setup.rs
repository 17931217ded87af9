//! Sets up the machine for the checks: Debian packages, Rust components, Kubernetes programs,
//! GoBGP.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::step::{cargo, command, output, root, show_and_run, succeeds};

/// Debian packages: routers, a BMP collector, tools of the lab, requirements of real Kubernetes
/// nodes, build dependencies of Kubernetes, a browser, and Prometheus.
const PACKAGES: &[&str] = &[
    "bird2",
    "busybox-static",
    "ca-certificates",
    "chromium",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "docker.io",
    "etcd-server",
    "exabgp",
    "frr",
    "frr-pythontools",
    "g++",
    "gcc",
    "git",
    "gobgpd",
    "iproute2",
    "iptables",
    "iputils-arping",
    "iputils-ping",
    "keepalived",
    "libc6-dev",
    "ndisc6",
    "nftables",
    "openbgpd",
    "openssl",
    "pmacct",
    "procps",
    "prometheus",
    "python3-venv",
    "runc",
    "tcpdump",
    "tcpreplay",
    "traceroute",
];

/// The version of cargo-deny to install if there is none.
const CARGO_DENY: &str = "0.20.2";

/// apt starts no service of a new package while this script exits with 101.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Checks for root. A step that needs root fails without it; it is never skipped.
///
/// # Errors
/// When this process isn't root: the command with sudo.
pub(crate) fn require_root(what: &str) -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let effective_root = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
    ensure!(
        effective_root,
        "{what} needs root; run: sudo --preserve-env=HOME,PATH env PATH=\"$PATH\" cargo xtask test"
    );
    Ok(())
}

/// Installs missing Debian packages after a question.
///
/// # Errors
/// When this isn't Debian, this process isn't root, the answer is no, or apt fails.
pub(crate) fn packages(yes: bool) -> Result<()> {
    let missing = missing_packages()?;
    if missing.is_empty() {
        println!("    all {} packages are installed", PACKAGES.len());
        return Ok(());
    }
    println!(
        "    to be installed with apt-get, without starting services: {}",
        missing.join(" ")
    );
    require_root("installing packages")?;
    confirm(yes)?;
    let policy = ServicesOff::new()?;
    show_and_run(&mut command("apt-get", &["update", "-q"]))?;
    let mut install = command(
        "apt-get",
        &[
            "install",
            "-qy",
            "--no-install-recommends",
            "-o=Dpkg::Use-Pty=0",
        ],
    );
    show_and_run(
        install
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    drop(policy);
    let missing = missing_packages()?;
    ensure!(
        missing.is_empty(),
        "still missing after apt-get install: {}",
        missing.join(" ")
    );
    Ok(())
}

fn missing_packages() -> Result<Vec<&'static str>> {
    if !succeeds(&mut command("dpkg-query", &["--version"])) {
        bail!(
            "the lab needs Debian (dpkg-query is missing) with these packages: {}",
            PACKAGES.join(" ")
        );
    }
    // Fails if a package is unknown, but still prints the others.
    let known = command(
        "dpkg-query",
        &["-W", "-f=${Package} ${db:Status-Status}\\n"],
    )
    .args(PACKAGES)
    .output()?;
    let known = String::from_utf8_lossy(&known.stdout).into_owned();
    let is_installed = |package: &&&str| {
        let line = format!("{package} installed");
        known.lines().any(|known| known == line)
    };
    Ok(PACKAGES
        .iter()
        .filter(|package| !is_installed(package))
        .copied()
        .collect())
}

/// Asks for consent on the terminal, except with `--yes` and in CI.
fn confirm(yes: bool) -> Result<()> {
    if yes || std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "stdin is not a terminal; to continue without a question: cargo xtask test --yes"
    );
    print!("    Continue? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(
        matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"),
        "aborted; nothing was changed"
    );
    Ok(())
}

/// Prevents new services from starting until it is dropped.
struct ServicesOff {
    /// The previous script with its permissions.
    before: Option<(Vec<u8>, fs::Permissions)>,
}

impl ServicesOff {
    fn new() -> Result<Self> {
        let before = match fs::read(POLICY) {
            Ok(text) => Some((text, fs::metadata(POLICY)?.permissions())),
            Err(_) => None,
        };
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { before })
    }
}

impl Drop for ServicesOff {
    fn drop(&mut self) {
        let restored = match self.before.take() {
            Some((text, mode)) => {
                fs::write(POLICY, text).and_then(|()| fs::set_permissions(POLICY, mode))
            }
            None => fs::remove_file(POLICY),
        };
        if let Err(error) = restored {
            eprintln!("xtask: cannot restore {POLICY}: {error}");
        }
    }
}

/// Installs rustfmt and clippy, which rustup's minimal profile lacks.
///
/// # Errors
/// When rustup can't install a missing component.
pub(crate) fn rust_components() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if succeeds(&mut cargo(&[subcommand, "--version"])) {
            continue;
        }
        println!("    to be installed with rustup: {component}");
        show_and_run(&mut command("rustup", &["component", "add", component]))
            .with_context(|| format!("{component} is missing"))?;
    }
    println!("    {}", output(&mut cargo(&["--version"]))?.trim());
    Ok(())
}

/// Builds cargo-deny if it is missing, after a question.
///
/// # Errors
/// When the answer is no or the build fails.
pub(crate) fn cargo_deny(yes: bool) -> Result<()> {
    if succeeds(&mut cargo(&["deny", "--version"])) {
        return Ok(());
    }
    println!("    to be installed with cargo (3 minutes on two cores): cargo-deny {CARGO_DENY}");
    confirm(yes)?;
    show_and_run(&mut cargo(&[
        "install",
        "--locked",
        "--version",
        CARGO_DENY,
        "cargo-deny",
    ]))
}

/// Builds the Kubernetes programs once, into a cache outside the work tree.
///
/// # Errors
/// When the script fails; it prints the reason.
pub(crate) fn kubernetes() -> Result<()> {
    let script = Path::new("interop-tests/kube/build.sh");
    show_and_run(command("bash", &[]).arg(script))
}

/// The kubectl among them.
///
/// # Errors
/// When HOME is not set, or the script names no version.
pub(crate) fn kubectl() -> Result<PathBuf> {
    let script = fs::read_to_string(root().join("interop-tests/kube/build.sh"))?;
    let mut lines = script.lines();
    let version = lines.find_map(|line| line.strip_prefix("readonly KUBERNETES="));
    let version = version.context("build.sh: no line `readonly KUBERNETES=`")?;
    let cache = match std::env::var_os("FERROLB_KUBE_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let home = std::env::var_os("HOME").context("HOME is not set")?;
            Path::new(&home).join(".cache/ferrolb/kube")
        }
    };
    Ok(cache.join(version).join("kubectl"))
}

/// The GoBGP version that the benchmark `bgp` measures in addition to Debian's.
const GOBGP: &str = "v4.8.0";

/// Builds the current GoBGP once, into a cache outside the work tree. Returns the folder with the
/// programs `gobgpd` and `gobgp`.
///
/// # Errors
/// When HOME is not set, or the script fails; it prints the reason.
pub(crate) fn gobgp() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = Path::new(&home).join(".cache/ferrolb/gobgp").join(GOBGP);
    let script = Path::new("interop-tests/gobgp/build.sh");
    show_and_run(command("bash", &[]).arg(script).arg(&folder).arg(GOBGP))?;
    Ok(folder)
}

/// The MetalLB version that ferrolb is tested beside and compared with: the last one that builds
/// from the Go module proxy alone.
const METALLB: &str = "v0.14.9";

/// The folder with MetalLB's programs: a cache outside the work tree.
///
/// # Errors
/// When HOME is not set.
pub(crate) fn metallb_folder() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(Path::new(&home)
        .join(".cache/ferrolb/metallb")
        .join(METALLB))
}

/// Builds MetalLB's programs once.
///
/// # Errors
/// When HOME is not set, or the script fails; it prints the reason.
pub(crate) fn metallb() -> Result<()> {
    let script = Path::new("interop-tests/metallb/build.sh");
    let mut build = command("bash", &[]);
    show_and_run(build.arg(script).arg(metallb_folder()?).arg(METALLB))
}

/// The Helm version that checks the chart.
const HELM: &str = "v3.19.5";

/// The folder with Helm and the CRDs of the Prometheus operator: a cache outside the work tree.
///
/// # Errors
/// When HOME is not set.
pub(crate) fn packaging_folder() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(Path::new(&home).join(".cache/ferrolb/packaging").join(HELM))
}

/// Builds Helm once.
///
/// # Errors
/// When HOME is not set, or the script fails; it prints the reason.
pub(crate) fn packaging() -> Result<()> {
    let script = Path::new("interop-tests/packaging/build.sh");
    let mut build = command("bash", &[]);
    show_and_run(build.arg(script).arg(packaging_folder()?).arg(HELM))
}
