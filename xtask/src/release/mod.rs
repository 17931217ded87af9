//! `cargo xtask release`: writes the files of a release. It publishes and signs nothing.

mod check;
mod image;
mod manifests;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use self::image::Program;
use self::manifests::Image;
use crate::setup;
use crate::step::{cargo, command, output, root, show_and_run, succeeds, target_directory};

/// Arguments of `cargo xtask release`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder on the Web that will have the files, for the manifest of krew
    #[arg(long)]
    url: String,
    /// The image in its registry, without tag: REGISTRY/ferrolb. The manifests name it by digest
    #[arg(long)]
    image: String,
    /// The folder to write to. It must not exist
    #[arg(long)]
    out: PathBuf,
    /// The architectures
    #[arg(long, value_delimiter = ',', default_value = "amd64,arm64")]
    arch: Vec<Arch>,
    /// The profile of cargo. Another one than dist is for trying this command
    #[arg(long, default_value = "dist")]
    profile: String,
}

/// An architecture, by its name in images and archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The first part of the target's name.
    const fn cpu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.cpu())
    }

    fn is_native(self) -> bool {
        self.cpu() == std::env::consts::ARCH
    }

    fn archive(self) -> String {
        format!("ferrolb-linux-{}.tar.gz", self.name())
    }
}

/// Writes all files.
///
/// # Errors
/// When a program is missing, or a build fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    for arch in &options.arch {
        check_compiler(*arch)?;
    }
    write(options, |arch| build(arch, &options.profile))
}

/// The time of all files, in seconds since 1970: that of the last commit. A folder without history
/// names it in SOURCE_DATE_EPOCH, else it is 0.
fn source_date() -> Result<String> {
    if !root().join(".git").exists() {
        return Ok(std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".to_owned()));
    }
    let time = output(&mut command("git", &["log", "-1", "--format=%ct"]))?;
    Ok(time.trim().to_owned())
}

/// Writes all files, with the programs that `program` returns.
fn write(options: &Options, program: impl Fn(Arch) -> Result<PathBuf>) -> Result<()> {
    let out = std::path::absolute(&options.out)?;
    ensure!(!out.exists(), "{} exists: name a new folder", out.display());
    let native = options.arch.iter().find(|arch| arch.is_native());
    let native = *native.context("--arch: the one of this machine writes the manual pages")?;
    let pack = Pack {
        time: source_date()?,
    };
    fs::create_dir_all(&out)?;
    let mut programs = Vec::new();
    for arch in &options.arch {
        let path = program(*arch)?;
        archive(&pack, *arch, &path, &out)?;
        programs.push(Program { arch: *arch, path });
    }
    let version = version()?;
    fs::write(out.join("ferrolb.cdx.json"), sbom::bill(&options.arch)?)?;
    let digest = image::write(&pack, &programs, &version, &out)?;
    let image = Image {
        name: &options.image,
        digest: &digest,
        version: &version,
        architectures: &options.arch,
    };
    manifests::write(&image, &out)?;
    manifests::kustomize(&pack, &image, &out)?;
    manifests::chart(&image, &out)?;
    let program = programs.iter().find(|program| program.arch == native);
    documentation(&pack, &program.context("no program")?.path, &out)?;
    manifests::krew(&options.url, &version, &options.arch, &out)?;
    checksums(&out)?;
    println!(
        "\n{}: push the image with `skopeo copy --all oci-archive:{}/{}:{version} \
         docker://{}:{version}`, then sign SHA256SUMS and the image, for example with cosign",
        out.display(),
        out.display(),
        image::FILE,
        options.image,
    );
    Ok(())
}

/// Writes a release for the architecture of this machine with a static program, and checks it. The
/// files are removed unless something is wrong.
///
/// # Errors
/// When a file is wrong.
pub(crate) fn rehearse(program: &Path) -> Result<()> {
    let all = Arch::value_variants().iter().copied();
    let arch: Vec<Arch> = all.filter(|arch| arch.is_native()).collect();
    let out = target_directory()?.join("release-check");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let options = Options {
        url: "https://downloads.example/v1".to_owned(),
        image: "registry.example/ferrolb".to_owned(),
        out,
        arch,
        profile: String::new(),
    };
    write(&options, |_| Ok(program.to_owned()))?;
    check::check(&options).with_context(|| options.out.display().to_string())?;
    fs::remove_dir_all(&options.out)?;
    Ok(())
}

/// The version of the workspace.
fn version() -> Result<String> {
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut packages = packages.filter(|package| package["name"] == "ferrolb");
    let package = packages.next().context("no package ferrolb")?;
    Ok(package["version"]
        .as_str()
        .context("no version")?
        .to_owned())
}

/// The C compiler for another architecture than this machine's.
fn cross_compiler(arch: Arch) -> Option<String> {
    (!arch.is_native()).then(|| format!("{}-linux-gnu-gcc", arch.cpu()))
}

fn check_compiler(arch: Arch) -> Result<()> {
    let Some(compiler) = cross_compiler(arch) else {
        return Ok(());
    };
    if succeeds(&mut command(&compiler, &["--version"])) {
        return Ok(());
    }
    let (cpu, name) = (arch.cpu().replace('_', "-"), arch.name());
    bail!(
        "{compiler} is missing: run `apt-get install gcc-{cpu}-linux-gnu \
         libc6-dev-{name}-cross` and `rustup target add {}`, or leave {name} out with --arch",
        arch.target()
    )
}

/// Builds the static program of an architecture. With an explicit target the flags don't apply to
/// proc macros, which can't be static.
fn build(arch: Arch, profile: &str) -> Result<PathBuf> {
    let target = arch.target();
    let mut build = cargo(&["build", "--locked", "-p", "ferrolb", "--profile", profile]);
    build.args(["--target", &target]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static");
    if let Some(compiler) = cross_compiler(arch) {
        let target = target.replace('-', "_");
        build.env(format!("CC_{target}"), &compiler);
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase());
        build.env(linker, &compiler);
    }
    show_and_run(&mut build)?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let program = target_directory()?
        .join(target)
        .join(folder)
        .join("ferrolb");
    ensure!(
        program.exists(),
        "cargo did not create {}",
        program.display()
    );
    Ok(program)
}

/// Makes archives that depend on their content only.
struct Pack {
    /// Seconds since 1970: of the commit.
    time: String,
}

impl Pack {
    /// Writes an archive of all files in a folder.
    fn tar(&self, archive: &Path, folder: &Path) -> Result<()> {
        let mut tar = command("tar", &["--sort=name", "--owner=0", "--group=0"]);
        tar.args(["--numeric-owner", "--format=ustar", "--mode=go=rX,u+rw,a-s"]);
        tar.arg(format!("--mtime=@{}", self.time));
        tar.arg("-cf").arg(archive).arg("-C").arg(folder);
        let mut names = entries(folder)?;
        names.sort();
        output(tar.args(names)).map(drop)
    }

    /// The same, compressed; `archive` ends in `.gz`.
    fn tar_gz(&self, archive: &Path, folder: &Path) -> Result<()> {
        let plain = archive.with_extension("");
        self.tar(&plain, folder)?;
        // Without name and time.
        output(command("gzip", &["-9", "-n"]).arg(&plain)).map(drop)
    }
}

/// The names of the entries of a folder.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(out: &Path, name: &str) -> Result<Self> {
        let folder = out.join(format!(".{name}"));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What remains is visible in the output folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program and the license, as krew expects them.
fn archive(pack: &Pack, arch: Arch, program: &Path, out: &Path) -> Result<()> {
    let scratch = Scratch::new(out, arch.name())?;
    fs::copy(program, scratch.0.join("ferrolb"))?;
    fs::copy(root().join("LICENSE"), scratch.0.join("LICENSE"))?;
    pack.tar_gz(&out.join(arch.archive()), &scratch.0)
}

/// Manual pages and completion scripts.
fn documentation(pack: &Pack, program: &Path, out: &Path) -> Result<()> {
    let scratch = Scratch::new(out, "documentation")?;
    let program = program.to_string_lossy();
    let man = scratch.0.join("man");
    fs::create_dir_all(&man)?;
    output(command(&program, &["man"]).arg(&man))?;
    let completions = scratch.0.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&mut command(&program, &["completions", shell]))?;
        fs::write(completions.join(format!("ferrolb.{shell}")), script)?;
    }
    pack.tar_gz(&out.join("ferrolb-man-completions.tar.gz"), &scratch.0)
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(file: &Path) -> Result<String> {
    let text = output(command("sha256sum", &[]).arg(file))?;
    let digest = text.split_whitespace().next().unwrap_or_default();
    ensure!(digest.len() == 64, "sha256sum printed: {text}");
    Ok(digest.to_owned())
}

fn checksums(out: &Path) -> Result<()> {
    let mut names = entries(out)?;
    names.sort();
    let lines: Result<Vec<String>> = names
        .iter()
        .map(|name| Ok(format!("{}  {name}\n", sha256(&out.join(name))?)))
        .collect();
    fs::write(out.join("SHA256SUMS"), lines?.concat())?;
    Ok(())
}

/// Helm, which the chart is packed with.
fn helm() -> Result<PathBuf> {
    setup::packaging()?;
    Ok(setup::packaging_folder()?.join("helm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_of_the_same_files_is_the_same() {
        let folder = std::env::temp_dir().join(format!("xtask-release-{}", std::process::id()));
        let scratch = Scratch::new(&folder, "pack").expect("a folder");
        let files = scratch.0.join("files");
        fs::create_dir_all(&files).expect("a folder");
        let pack = Pack {
            time: "1700000000".to_owned(),
        };
        let write = |name: &str| {
            fs::write(files.join("b"), "text").expect("a file");
            fs::write(files.join("a"), "text").expect("a file");
            let archive = scratch.0.join(name);
            pack.tar_gz(&archive, &files).expect("an archive");
            sha256(&archive).expect("a digest")
        };
        let first = write("first.tar.gz");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(first, write("second.tar.gz"));
        drop(scratch);
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_missing_compiler_names_the_packages() {
        let foreign = [Arch::Amd64, Arch::Arm64].into_iter();
        let mut foreign = foreign.filter(|arch| !arch.is_native());
        let arch = foreign.next().expect("another architecture");
        let compiler = cross_compiler(arch).expect("a cross compiler");
        assert!(compiler.ends_with("-linux-gnu-gcc"), "{compiler}");
        match check_compiler(arch) {
            Ok(()) => assert!(succeeds(&mut command(&compiler, &["--version"]))),
            Err(error) => assert!(
                error.to_string().contains("apt-get install gcc-"),
                "{error}"
            ),
        }
    }
}
