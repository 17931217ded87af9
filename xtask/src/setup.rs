//! What the checks need on a machine: Debian packages, Rust's components, the Kubernetes programs.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::step::{cargo, command, output, show_and_run, succeeds};

/// The routers, the tools of the lab, what real Kubernetes nodes need, and what building Kubernetes
/// needs.
const PACKAGES: &[&str] = &[
    "bird2",
    "busybox-static",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "docker.io",
    "etcd-server",
    "exabgp",
    "frr",
    "g++",
    "gcc",
    "git",
    "gobgpd",
    "iproute2",
    "iptables",
    "libc6-dev",
    "nftables",
    "openbgpd",
    "openssl",
    "procps",
    "python3-venv",
    "runc",
];

/// The version of cargo-deny that is installed where there is none.
const CARGO_DENY: &str = "0.20.2";

/// While this exists and exits with 101, installing a package starts none of its services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Says whether we are root.
///
/// # Errors
/// When we aren't: how to become so. Whatever needs root fails then, it isn't skipped.
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

/// Installs the Debian packages that are missing, after asking.
///
/// # Errors
/// Without Debian, without root, without consent, or when apt fails.
pub(crate) fn packages(yes: bool) -> Result<()> {
    let missing = missing_packages()?;
    if missing.is_empty() {
        println!("    all {} packages are here", PACKAGES.len());
        return Ok(());
    }
    println!(
        "    to install with apt-get, without starting their services: {}",
        missing.join(" ")
    );
    require_root("installing packages")?;
    ask(yes)?;
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
    ensure!(missing.is_empty(), "still missing: {}", missing.join(" "));
    Ok(())
}

fn missing_packages() -> Result<Vec<&'static str>> {
    if !succeeds(&mut command("dpkg-query", &["--version"])) {
        bail!(
            "the lab runs Debian's programs, and this isn't Debian (no dpkg-query). Needed are: {}",
            PACKAGES.join(" ")
        );
    }
    // Fails when a single package is unknown, but prints the others all the same.
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

/// Asks on the terminal, unless told not to.
fn ask(yes: bool) -> Result<()> {
    if yes || std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody to ask; consent with: cargo xtask test --yes"
    );
    print!("    Go on? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(
        matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"),
        "not set up; nothing was changed"
    );
    Ok(())
}

/// Keeps freshly installed services from starting, as long as it lives.
struct ServicesOff {
    /// What was there before, with its mode.
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

/// Adds rustfmt and clippy, which rustup's minimal profile leaves out.
///
/// # Errors
/// When one is missing and rustup can't add it.
pub(crate) fn rust_components() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if succeeds(&mut cargo(&[subcommand, "--version"])) {
            continue;
        }
        println!("    to install with rustup: {component}");
        show_and_run(&mut command("rustup", &["component", "add", component]))
            .with_context(|| format!("{component} is missing"))?;
    }
    println!("    {}", output(&mut cargo(&["--version"]))?.trim());
    Ok(())
}

/// Builds cargo-deny where it is missing.
///
/// # Errors
/// Without consent, or when it can't be built.
pub(crate) fn cargo_deny(yes: bool) -> Result<()> {
    if succeeds(&mut cargo(&["deny", "--version"])) {
        return Ok(());
    }
    println!("    to install with cargo (3 minutes on two cores): cargo-deny {CARGO_DENY}");
    ask(yes)?;
    show_and_run(&mut cargo(&[
        "install",
        "--locked",
        "--version",
        CARGO_DENY,
        "cargo-deny",
    ]))
}

/// Builds the Kubernetes programs once into a cache outside the work tree.
///
/// # Errors
/// When the script fails; it says why.
pub(crate) fn kubernetes() -> Result<()> {
    let script = Path::new("interop-tests/kube/build.sh");
    show_and_run(command("bash", &[]).arg(script))
}

/// The GoBGP that the benchmark `bgp` measures beside Debian's.
const GOBGP: &str = "v4.8.0";

/// Builds the current GoBGP once into a cache outside the work tree. Gives the folder that has the
/// programs `gobgpd` and `gobgp`.
///
/// # Errors
/// When the home folder is unknown, or when the script fails; it says why.
pub(crate) fn gobgp() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = Path::new(&home).join(".cache/ferrolb/gobgp").join(GOBGP);
    let script = Path::new("interop-tests/gobgp/build.sh");
    show_and_run(command("bash", &[]).arg(script).arg(&folder).arg(GOBGP))?;
    Ok(folder)
}
