//! Checks the files of a release, as someone who downloads them uses them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Options, Scratch, entries, helm, image, manifests, sha256, version};
use crate::setup;
use crate::step::{command, output, root};

/// Checks all files.
///
/// # Errors
/// With what is wrong.
pub(super) fn check(options: &Options) -> Result<()> {
    let out = &options.out;
    all_files_have_sums_and_are_documented(options)?;
    let scratch = Scratch::new(out, "check")?;
    let program = krew_installs_the_program(options, &scratch)?;
    let digest = the_image_has_the_program(out, &scratch, &program)?;
    let pinned = format!("image: {}@{digest}", options.image);
    has_images(&fs::read_to_string(out.join("ferrolb.yaml"))?, &pinned).context("ferrolb.yaml")?;
    the_chart_is_pinned(options, &pinned)?;
    the_overlays_are_pinned(out, &scratch, &pinned)?;
    let names = names(&out.join("ferrolb-man-completions.tar.gz"))?;
    for file in ["man/ferrolb.1", "completions/ferrolb.bash"] {
        ensure!(names.lines().any(|name| name == file), "no {file}: {names}");
    }
    let bill = json(&out.join("ferrolb.cdx.json"))?;
    let of = &bill["metadata"]["component"];
    ensure!(
        of["name"] == "ferrolb" && of["version"] == *version()?,
        "{of}"
    );
    Ok(())
}

fn all_files_have_sums_and_are_documented(options: &Options) -> Result<()> {
    let mut expected: Vec<String> = [
        "SHA256SUMS",
        image::FILE,
        manifests::KUSTOMIZE,
        "ferrolb-man-completions.tar.gz",
        "ferrolb.cdx.json",
        "ferrolb.yaml",
        "krew.yaml",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.push(format!("ferrolb-{}.tgz", version()?));
    expected.extend(options.arch.iter().map(|arch| arch.archive()));
    expected.sort();
    let mut found = entries(&options.out)?;
    found.sort();
    ensure!(found == expected, "{found:?}, not {expected:?}");

    let mut sums = command("sha256sum", &["--check", "--strict", "SHA256SUMS"]);
    let checked = output(sums.current_dir(&options.out))?;
    let page = fs::read_to_string(root().join("CONTRIBUTING.md"))?;
    for name in &expected {
        let is_checked = checked.contains(&format!("{name}: OK\n"));
        ensure!(is_checked || name == "SHA256SUMS", "no sum of {name}");
        ensure!(
            page.contains(&format!("`{name}`")),
            "CONTRIBUTING.md: no {name}"
        );
    }
    Ok(())
}

/// Does what krew does: checks the sum of the archive, unpacks it and runs the program. Returns its
/// path.
fn krew_installs_the_program(options: &Options, scratch: &Scratch) -> Result<PathBuf> {
    let manifest = fs::read_to_string(options.out.join("krew.yaml"))?;
    let platforms = manifest.matches("uri: ").count();
    ensure!(
        platforms == options.arch.len(),
        "{platforms} platforms: {manifest}"
    );
    let archive = options.arch.first().context("no architecture")?.archive();
    let file = options.out.join(&archive);
    let lines = format!(
        "      uri: '{}/{archive}'\n      sha256: '{}'\n      bin: ferrolb\n",
        options.url,
        sha256(&file)?
    );
    ensure!(manifest.contains(&lines), "no {lines:?} in: {manifest}");
    let found = names(&file)?;
    ensure!(found == "LICENSE\nferrolb\n", "{archive}: {found}");
    let program = unpacked(&file, scratch, "krew")?.join("ferrolb");
    let path = program.to_string_lossy();
    let printed = output(&mut command(&path, &["--version"]))?;
    ensure!(printed.trim_end().ends_with(&version()?), "{printed}");
    let crds = output(&mut command(&path, &["crds"]))?;
    let shipped = fs::read_to_string(root().join("deploy/manifests/0-crds.yaml"))?;
    ensure!(
        crds == shipped,
        "`ferrolb crds` prints other CRDs than 0-crds.yaml"
    );
    Ok(program)
}

/// Returns the digest of the image.
fn the_image_has_the_program(out: &Path, scratch: &Scratch, program: &Path) -> Result<String> {
    let layout = unpacked(&out.join(image::FILE), scratch, "image")?;
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let digest = digest.strip_prefix("sha256:").context("no digest")?;
        anyhow::Ok(layout.join("blobs/sha256").join(digest))
    };
    let top = json(&layout.join("index.json"))?;
    let index = json(&blob(&top["manifests"][0])?)?;
    let manifest = json(&blob(&index["manifests"][0])?)?;
    let layer = unpacked(&blob(&manifest["layers"][0])?, scratch, "layer")?;
    let same = sha256(&layer.join("ferrolb"))? == sha256(program)?;
    ensure!(same, "the image has another program than the archive");
    let digest = top["manifests"][0]["digest"].as_str();
    Ok(digest.context("no digest")?.to_owned())
}

fn the_chart_is_pinned(options: &Options, pinned: &str) -> Result<()> {
    let chart = options.out.join(format!("ferrolb-{}.tgz", version()?));
    let helm = helm()?;
    let helm = |arguments: &[&str]| {
        let mut helm = command(&helm.to_string_lossy(), arguments);
        output(helm.arg(&chart))
    };
    helm(&["lint", "--strict"])?;
    has_images(&helm(&["template", "ferrolb"])?, pinned).context("the chart")?;
    let (name, digest) = pinned.split_once('@').context("no digest")?;
    let annotation = format!("{name}:{}@{digest}\n", version()?);
    let shown = helm(&["show", "chart"])?;
    ensure!(shown.contains(&annotation), "no {annotation:?} in: {shown}");
    Ok(())
}

fn the_overlays_are_pinned(out: &Path, scratch: &Scratch, pinned: &str) -> Result<()> {
    let folder = unpacked(&out.join(manifests::KUSTOMIZE), scratch, "kustomize")?;
    let kubectl = setup::kubectl()?;
    let build = |overlay: &str| {
        let mut kubectl = command(&kubectl.to_string_lossy(), &["kustomize"]);
        output(kubectl.arg(folder.join("kustomize").join(overlay)))
    };
    has_images(&build("all")?, pinned).context("deploy/kustomize/all")
}

/// Checks that the three workloads have this image and no other.
fn has_images(manifests: &str, pinned: &str) -> Result<()> {
    let images = manifests.lines().map(str::trim);
    let images = images.map(|line| line.trim_start_matches("- "));
    let images: Vec<&str> = images.filter(|line| line.starts_with("image: ")).collect();
    ensure!(images == [pinned; 3], "{images:?}, not {pinned:?}");
    Ok(())
}

/// The names of the files in an archive.
fn names(archive: &Path) -> Result<String> {
    output(command("tar", &["-tf"]).arg(archive))
}

/// Unpacks an archive into a new folder.
fn unpacked(archive: &Path, scratch: &Scratch, name: &str) -> Result<PathBuf> {
    let folder = scratch.0.join(name);
    fs::create_dir_all(&folder)?;
    output(command("tar", &["-xf"]).arg(archive).arg("-C").arg(&folder))?;
    Ok(folder)
}

fn json(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_the_digest_is_found() {
        let pinned = "image: registry.example/ferrolb@sha256:aa";
        let three = format!("  - {pinned}\n").repeat(3);
        has_images(&three, pinned).expect("three");
        let other = three.replacen("@sha256:aa", ":dev", 1);
        let error = has_images(&other, pinned).unwrap_err().to_string();
        assert!(error.contains("ferrolb:dev"), "{error}");
        assert!(has_images("", pinned).is_err());
    }
}
