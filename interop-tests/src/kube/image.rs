//! Container images as docker archives, so that real nodes need no registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::traffic_program;
use crate::process::{ferrolb, run};
use crate::scenario::Scratch;

/// Source of the pause container.
const PAUSE: &str = include_str!("../../kube/pause.c");

/// An image with one layer of static programs and an entrypoint. Pods need `imagePullPolicy: Never`
/// and a [`RealNode`](super::RealNode) into which it was imported.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    files: Vec<(PathBuf, PathBuf)>,
    entrypoint: Vec<String>,
    user: String,
}

impl Image {
    /// An empty image with this name and tag, for example `ferrolb.example/ferrolb:lab`. It runs as
    /// root unless [`Image::user`] sets another user.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            files: Vec::new(),
            entrypoint: Vec::new(),
            user: String::new(),
        }
    }

    /// Adds a file with its mode; a program must be static. `target` is absolute.
    #[must_use]
    pub fn file(mut self, target: impl Into<PathBuf>, source: impl Into<PathBuf>) -> Self {
        self.files.push((target.into(), source.into()));
        self
    }

    /// Sets the entrypoint; a Pod's `args` are appended.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Sets the user: `UID` or `UID:GID`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Debian's static busybox as `/bin/busybox` and `/bin/sh`, tagged
    /// `ferrolb.example/busybox:lab`.
    #[must_use]
    pub fn busybox() -> Self {
        Self::new("ferrolb.example/busybox:lab")
            .file("/bin/busybox", "/bin/busybox")
            .file("/bin/sh", "/bin/busybox")
    }

    /// The same image as deploy/Dockerfile builds, with the name in the shipped manifests.
    ///
    /// # Errors
    /// When `FERROLB_BIN` is not set.
    pub fn ferrolb() -> Result<Self> {
        let image = Self::new("ferrolb:dev").file("/ferrolb", ferrolb()?);
        Ok(image.entrypoint(&["/ferrolb"]).user("65532:65532"))
    }

    /// `lab-traffic` with its shared libraries, tagged `ferrolb.example/traffic:lab`.
    ///
    /// # Errors
    /// When `lab-traffic` wasn't built, or `ldd` fails.
    pub fn traffic() -> Result<Self> {
        let program = traffic_program()?;
        let libraries = run(Command::new("ldd").arg(&program))?;
        let image = Self::new("ferrolb.example/traffic:lab")
            .file("/lab-traffic", &program)
            .entrypoint(&["/lab-traffic"]);
        // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)"; of the loader only the path.
        let paths = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        Ok(paths.fold(image, |image, path| image.file(path, path)))
    }

    /// The pause container, compiled with gcc into the scratch folder.
    pub(super) fn pause(scratch: &Scratch) -> Result<Self> {
        let (source, program) = (scratch.file("pause.c"), scratch.file("pause"));
        if !program.exists() {
            fs::write(&source, PAUSE)?;
            let mut compile = Command::new("gcc");
            run(compile
                .args(["-static", "-Os", "-s", "-o"])
                .arg(&program)
                .arg(&source))?;
        }
        Ok(Self::new("ferrolb.example/pause:lab")
            .file("/pause", program)
            .entrypoint(&["/pause"]))
    }

    /// Name with tag.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the archive into the scratch folder and returns its path.
    ///
    /// # Errors
    /// When a file is missing or `tar` fails.
    pub fn write(&self, scratch: &Scratch) -> Result<PathBuf> {
        let folder = scratch.file(&format!("image-{}", self.name.replace(['/', ':'], "_")));
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        for (target, source) in &self.files {
            let inside = target
                .strip_prefix("/")
                .context("a file's target must be absolute")?;
            let path = root.join(inside);
            fs::create_dir_all(path.parent().unwrap_or(&root))?;
            fs::copy(source, &path).with_context(|| format!("copy {}", source.display()))?;
        }
        let layer = folder.join("layer.tar");
        pack(&layer, &root, &["."])?;
        let config = json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "User": self.user,
                "Env": ["PATH=/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer)?)]},
        });
        fs::write(folder.join("config.json"), config.to_string())?;
        let manifest = json!([{
            "Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"],
        }]);
        fs::write(folder.join("manifest.json"), manifest.to_string())?;
        let archive = folder.join("image.tar");
        pack(
            &archive,
            &folder,
            &["manifest.json", "config.json", "layer.tar"],
        )?;
        Ok(archive)
    }
}

fn pack(archive: &Path, folder: &Path, names: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
        .arg(archive);
    run(tar.arg("-C").arg(folder).args(names)).map(drop)
}

fn digest(file: &Path) -> Result<String> {
    let text = run(Command::new("sha256sum").arg(file))?;
    let digest = text.split_whitespace().next().unwrap_or_default();
    ensure!(digest.len() == 64, "sha256sum printed: {text}");
    Ok(digest.to_owned())
}

/// This machine's architecture in the terms of the image format.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => anyhow::bail!("unknown image architecture for {other}"),
    }
}
