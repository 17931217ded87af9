//! Starts and removes the containers of `containers/compose.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Docker;
use crate::process::run;

/// The fields of a compose file that the lab supports; any other field is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ComposeFile {
    networks: BTreeMap<String, Network>,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    name: String,
    enable_ipv6: bool,
    ipam: Ipam,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ipam {
    config: Vec<Subnet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subnet {
    subnet: String,
    gateway: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    container_name: String,
    image: String,
    build: Build,
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    volumes: Vec<String>,
    #[serde(default)]
    cap_add: Vec<String>,
    networks: BTreeMap<String, Addresses>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    context: String,
    dockerfile: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    ipv4_address: String,
    ipv6_address: String,
}

/// The running containers: the nodes and one router. Dropping it removes them.
#[derive(Debug)]
pub struct ComposeRack<'docker> {
    docker: &'docker Docker<'docker>,
    compose: ComposeFile,
    program: Option<&'static [&'static str]>,
    profile: String,
}

/// Programs that read a compose file: Docker's plugin, or the older program of Debian.
const PROGRAMS: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];

impl<'docker> ComposeRack<'docker> {
    /// Builds the images and starts the nodes and the router of this profile (`gobgp`, `bird` or
    /// `frr`). The binary `deploy/ferrolb` must exist, see `deploy/Dockerfile`.
    ///
    /// # Errors
    /// When the file can't be read or a command of docker fails.
    pub fn up(docker: &'docker Docker<'docker>, profile: &str) -> Result<Self> {
        let path = folder().join("compose.yaml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let compose: ComposeFile =
            serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
        let rack = Self {
            docker,
            compose,
            program: PROGRAMS.into_iter().find(|words| is_installed(words)),
            profile: profile.to_owned(),
        };
        match rack.program {
            Some(program) => rack.compose(program, &["up", "--build", "--detach"])?,
            None => rack.start()?,
        }
        Ok(rack)
    }

    /// The folder of manifests of the nodes.
    #[must_use]
    pub fn manifests() -> PathBuf {
        folder().join("manifests")
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        let wanted = |profiles: &[String]| profiles.is_empty() || profiles.contains(&self.profile);
        self.compose
            .services
            .values()
            .filter(move |service| wanted(&service.profiles))
    }

    fn compose(&self, program: &[&str], arguments: &[&str]) -> Result<()> {
        println!("{} {}", program.join(" "), arguments.join(" "));
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .arg("-f")
            .arg(folder().join("compose.yaml"))
            .args(["--profile", &self.profile])
            .args(arguments)
            .env("DOCKER_HOST", self.docker.host())
            .env("DOCKER_BUILDKIT", "0");
        run(&mut command).map(drop)
    }

    /// Does the same as `docker compose up --build --detach` for the supported fields.
    fn start(&self) -> Result<()> {
        for network in self.compose.networks.values() {
            let mut command = self.docker.command();
            command.args(["network", "create"]);
            if network.enable_ipv6 {
                command.arg("--ipv6");
            }
            for subnet in &network.ipam.config {
                command.args(["--subnet", &subnet.subnet, "--gateway", &subnet.gateway]);
            }
            run(command.arg(&network.name))?;
        }
        for service in self.services() {
            let context = folder().join(&service.build.context);
            let mut build = self.docker.command();
            build.args(["build", "--quiet", "--tag", &service.image, "--file"]);
            build.arg(context.join(&service.build.dockerfile));
            run(build.arg(context))?;
            self.start_container(service)?;
        }
        Ok(())
    }

    fn start_container(&self, service: &Service) -> Result<()> {
        let mut command = self.docker.command();
        command.args(["run", "--detach", "--name", &service.container_name]);
        command.args(["--hostname", &service.container_name]);
        for (network, addresses) in &service.networks {
            let network = self.compose.networks.get(network);
            command.args(["--network", &network.context("unknown network")?.name]);
            command.args(["--ip", &addresses.ipv4_address]);
            command.args(["--ip6", &addresses.ipv6_address]);
        }
        for capability in &service.cap_add {
            command.args(["--cap-add", capability]);
        }
        for volume in &service.volumes {
            let (source, target) = volume.split_once(':').context("a volume needs a ':'")?;
            let source = fs::canonicalize(folder().join(source))?;
            command.args(["--volume", &format!("{}:{target}", source.display())]);
        }
        run(command.arg(&service.image).args(&service.command)).map(drop)
    }

    fn down(&self) -> Result<()> {
        if let Some(program) = self.program {
            return self.compose(program, &["down", "--timeout", "10"]);
        }
        for service in self.services() {
            self.docker
                .run(&["rm", "--force", &service.container_name])?;
        }
        for network in self.compose.networks.values() {
            self.docker.run(&["network", "rm", &network.name])?;
        }
        Ok(())
    }
}

impl Drop for ComposeRack<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for service in self.services() {
                let logs = self
                    .docker
                    .run(&["logs", "--tail", "25", &service.container_name]);
                eprintln!("---- {}: {logs:?}", service.container_name);
            }
        }
        if let Err(error) = self.down() {
            eprintln!("cannot remove the containers: {error:#}");
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("containers")
}

/// Whether a program is installed. Debian's Docker has neither of [`PROGRAMS`].
fn is_installed(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success())
}
