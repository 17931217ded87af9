//! A Docker daemon in its own network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Process, run};
use crate::scenario::Scratch;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Base image of every Dockerfile in `containers/`.
const BASE: &str = "debian:bookworm-slim";
/// Packages that the Dockerfiles install. Without a reachable registry they are part of the base
/// image, since a container could not download them either.
const PACKAGES: &[&str] = &["bird2", "frr", "gobgpd", "iproute2"];

/// A Docker daemon. It keeps its images in `~/.cache/ferrolb/docker` between runs. Dropping it
/// stops the daemon and its containers.
#[derive(Debug)]
pub struct Docker<'lab> {
    scratch: &'lab Scratch,
    dockerd: Process,
    /// The namespace of its bridges; dropped last.
    _namespace: Namespace,
}

impl<'lab> Docker<'lab> {
    /// Starts the daemon.
    ///
    /// # Errors
    /// When Docker isn't installed or does not come up: the end of its log.
    pub fn start(scratch: &'lab Scratch) -> Result<Self> {
        let namespace = Namespace::new("docker")?;
        let mut command = namespace.command("dockerd");
        command.arg("--data-root").arg(cache("docker")?);
        command.arg("--exec-root").arg(scratch.file("docker"));
        command.arg("--pidfile").arg(scratch.file("docker.pid"));
        command.arg("--host").arg(socket(scratch));
        let dockerd = Process::start(scratch, "dockerd", &command)?;
        let mut docker = Self {
            scratch,
            dockerd,
            _namespace: namespace,
        };
        eventually("dockerd up", START_TIMEOUT, || {
            docker.dockerd.ensure_running()?;
            docker.run(&["version"])
        })?;
        Ok(docker)
    }

    /// A `docker` command for this daemon.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(socket(self.scratch));
        // The builder inside the daemon; BuildKit is a plugin that Debian lacks.
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Its socket as a value of `DOCKER_HOST`.
    pub(super) fn host(&self) -> String {
        socket(self.scratch)
    }

    /// Runs `docker` and returns its stdout.
    ///
    /// # Errors
    /// When the command fails, with its output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        run(self.command().args(arguments))
    }

    /// Runs a program in a container and returns its stdout.
    ///
    /// # Errors
    /// When the program fails, with its output.
    pub fn exec(&self, container: &str, words: &[&str]) -> Result<String> {
        self.run(&[&["exec", container], words].concat())
    }

    /// Provides the base image: pulls it, or builds Debian with `debootstrap` if no registry is
    /// reachable.
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
        println!("no registry reachable: building {BASE} with debootstrap (about a minute)");
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
        let stream = archive.stdout.context("stdout of tar is piped")?;
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
        fs::remove_dir_all(&tree).context("remove debootstrap's tree")
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // With SIGTERM Docker stops its containers. Dropping the process kills what is left.
        if let Err(error) = self.dockerd.terminate(START_TIMEOUT) {
            eprintln!("cannot stop dockerd: {error:#}");
        }
    }
}

fn socket(scratch: &Scratch) -> String {
    format!("unix://{}", scratch.file("docker.sock").display())
}

/// A folder in the cache, which is kept between runs.
fn cache(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let path = Path::new(&home).join(".cache/ferrolb").join(name);
    fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}
