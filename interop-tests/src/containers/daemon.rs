//! Docker's daemon, started by hand in a network namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, Scratch, run};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What every Dockerfile here begins with.
const BASE: &str = "debian:bookworm-slim";
/// What they install: where no registry can be reached the base image has it already, since then
/// nothing inside a container can reach Debian either.
const PACKAGES: &[&str] = &["bird2", "frr", "gobgpd", "iproute2"];

/// A Docker daemon, its images kept between runs in `~/.cache/ferrolb/docker`. Dropping it ends it
/// and its containers.
#[derive(Debug)]
pub struct Docker<'lab> {
    scratch: &'lab Scratch,
    daemon: Process,
    /// Where its bridges are; dropped last.
    _namespace: Namespace,
}

impl<'lab> Docker<'lab> {
    /// Starts it.
    ///
    /// # Errors
    /// When it isn't installed or does not come up: the end of its log.
    pub fn start(scratch: &'lab Scratch) -> Result<Self> {
        let namespace = Namespace::new("docker")?;
        let mut command = namespace.command("dockerd");
        command.arg("--data-root").arg(cache("docker")?);
        command.arg("--exec-root").arg(scratch.file("docker"));
        command.arg("--pidfile").arg(scratch.file("docker.pid"));
        command.arg("--host").arg(socket(scratch));
        let daemon = Process::start(scratch, "dockerd", &command)?;
        let mut docker = Self {
            scratch,
            daemon,
            _namespace: namespace,
        };
        eventually("dockerd up", START_TIMEOUT, || {
            docker.daemon.ensure_running()?;
            docker.run(&["version"])
        })?;
        Ok(docker)
    }

    /// A `docker` command for this daemon.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(socket(self.scratch));
        // Builds by the daemon itself; its other builder is a plugin that Debian lacks.
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Where it listens, for programs that take `DOCKER_HOST`.
    pub(super) fn host(&self) -> String {
        socket(self.scratch)
    }

    /// Runs `docker` and gives its stdout.
    ///
    /// # Errors
    /// When it fails, with its output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        run(self.command().args(arguments))
    }

    /// Runs a program in a container.
    ///
    /// # Errors
    /// When it fails, with its output.
    pub fn exec(&self, container: &str, words: &[&str]) -> Result<String> {
        self.run(&[&["exec", container], words].concat())
    }

    /// Makes the base image if it is neither here nor to be had: Debian by `debootstrap`.
    ///
    /// # Errors
    /// When debootstrap or the import fails.
    pub fn base_image(&self) -> Result<()> {
        if self.run(&["image", "inspect", BASE]).is_ok() {
            return Ok(());
        }
        if self.run(&["pull", "--quiet", BASE]).is_ok() {
            return Ok(());
        }
        println!("no registry: {BASE} is made by debootstrap, in about a minute");
        let tree = self.scratch.file("debian");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .arg("--variant=minbase")
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg("bookworm")
            .arg(&tree);
        run(&mut debootstrap)?;
        let archive = Command::new("tar")
            .arg("-C")
            .arg(&tree)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .context("tar")?;
        let stream = archive.stdout.context("tar's output")?;
        let import = self
            .command()
            .args(["import", "-", BASE])
            .stdin(stream)
            .output()?;
        ensure!(
            import.status.success(),
            "docker import: {}",
            String::from_utf8_lossy(&import.stderr)
        );
        fs::remove_dir_all(&tree).context("remove the tree of debootstrap")
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its containers; its own drop kills what does not listen.
        if let Err(error) = self.daemon.terminate(START_TIMEOUT) {
            eprintln!("dockerd did not end in order: {error:#}");
        }
    }
}

fn socket(scratch: &Scratch) -> String {
    format!("unix://{}", scratch.file("docker.sock").display())
}

/// A folder that is kept between runs, as the Kubernetes programs are.
fn cache(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let path = Path::new(&home).join(".cache/ferrolb").join(name);
    fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    Ok(path)
}
