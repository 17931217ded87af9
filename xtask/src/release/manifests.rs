//! The manifests, the chart and the manifest of krew, for an image and archives that have digests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Arch, Scratch, entries, helm, sha256};
use crate::step::{command, output, root, show_and_run};

/// The image in the manifests of the repository.
const IMAGE: &str = "image: ferrolb:dev\n";

/// Writes `ferrolb.yaml` with the image by digest.
///
/// # Errors
/// When the manifests have another image.
pub(super) fn write(image: &str, digest: &str, out: &Path) -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/ferrolb.yaml"))?;
    fs::write(out.join("ferrolb.yaml"), pinned(&text, image, digest)?)?;
    Ok(())
}

fn pinned(text: &str, image: &str, digest: &str) -> Result<String> {
    let (found, images) = (text.matches(IMAGE).count(), text.matches("image: ").count());
    ensure!(
        found > 0 && found == images,
        "deploy/ferrolb.yaml: {found} of {images} images are ferrolb:dev"
    );
    let generated = text.lines().next().unwrap_or_default();
    ensure!(generated.starts_with('#'), "no comment in the first line");
    let text = text.replacen(&format!("{generated}\n"), "", 1);
    Ok(text.replace(IMAGE, &format!("image: {image}@{digest}\n")))
}

/// Packs the chart with the image as its default.
///
/// # Errors
/// When Helm fails, or values.yaml has another image.
pub(super) fn chart(image: &str, version: &str, out: &Path) -> Result<()> {
    let scratch = Scratch::new(out, "chart")?;
    let chart = scratch.0.join("ferrolb");
    // With the manifests that the chart links to.
    let source = root().join("deploy/helm/ferrolb");
    output(
        command("cp", &["--recursive", "--dereference"])
            .arg(source)
            .arg(&chart),
    )?;
    let values = chart.join("values.yaml");
    let text = fs::read_to_string(&values)?;
    fs::write(&values, with_image(&text, image, version)?)?;
    let helm = helm()?;
    let mut package = command(&helm.to_string_lossy(), &["package", "--destination"]);
    show_and_run(package.arg(out).arg(&chart))
}

fn with_image(values: &str, image: &str, version: &str) -> Result<String> {
    let old = "  repository: ferrolb\n  tag: dev\n";
    ensure!(values.contains(old), "values.yaml: no image ferrolb:dev");
    let new = format!("  repository: {image}\n  tag: \"{version}\"\n");
    Ok(values.replacen(old, &new, 1))
}

/// Writes `krew.yaml`, if all archives that it names were built.
///
/// # Errors
/// When an archive can't be read.
pub(super) fn krew(url: &str, version: &str, built: &[Arch], out: &Path) -> Result<()> {
    let all = [Arch::Amd64, Arch::Arm64];
    if !all.iter().all(|arch| built.contains(arch)) {
        println!("    no manifest of krew, since it names all architectures");
        return Ok(());
    }
    let template = fs::read_to_string(root().join("deploy/krew/ferrolb.yaml"))?;
    let mut digests = Vec::new();
    for arch in all {
        digests.push((arch, sha256(&out.join(arch.archive()))?));
    }
    fs::write(
        out.join("krew.yaml"),
        filled(&template, url, version, &digests)?,
    )?;
    ensure!(entries(out)?.iter().any(|name| name == "krew.yaml"));
    Ok(())
}

fn filled(template: &str, url: &str, version: &str, digests: &[(Arch, String)]) -> Result<String> {
    // The comment explains the template.
    let lines = template.lines().skip_while(|line| line.starts_with('#'));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    text = text.replace("@VERSION@", &format!("v{version}"));
    text = text.replace("@URL@", url.trim_end_matches('/'));
    for (arch, digest) in digests {
        let name = format!("@SHA256_{}@", arch.name().to_uppercase());
        text = text.replace(&name, digest);
    }
    let left = text.split('@').nth(1);
    match left {
        None => Ok(text),
        Some(left) => {
            Err(anyhow::anyhow!("@{left}@ has no value")).context("deploy/krew/ferrolb.yaml")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(file: &str) -> String {
        fs::read_to_string(root().join("deploy").join(file)).expect("a file")
    }

    #[test]
    fn every_image_in_the_manifests_has_the_digest() {
        let text = shipped("ferrolb.yaml");
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = pinned(&text, "registry.example/ferrolb", &digest).expect("manifests");
        let image = format!("image: registry.example/ferrolb@{digest}\n");
        assert_eq!(
            pinned.matches("image: ").count(),
            text.matches(IMAGE).count()
        );
        assert_eq!(pinned.matches(&image).count(), 3);
        assert!(!pinned.contains("Generated from"), "{}", &pinned[..200]);
        let other = format!("{text}image: other:latest\n");
        let error = super::pinned(&other, "x", &digest).unwrap_err().to_string();
        assert!(error.contains("3 of 4 images"), "{error}");
    }

    #[test]
    fn the_chart_has_the_image_of_the_release() {
        let values = shipped("helm/ferrolb/values.yaml");
        let new = with_image(&values, "registry.example/ferrolb", "1.2.3").expect("values");
        let image = "image:\n  repository: registry.example/ferrolb\n  tag: \"1.2.3\"\n";
        assert!(new.contains(image), "{new}");
        assert!(with_image("image: {}\n", "a", "1").is_err());
    }

    #[test]
    fn the_manifest_of_krew_has_no_placeholder_left() {
        let template = shipped("krew/ferrolb.yaml");
        let digests = [(Arch::Amd64, "1".repeat(64)), (Arch::Arm64, "2".repeat(64))];
        let text = filled(&template, "https://example.com/v1/", "1.2.3", &digests).expect("filled");
        assert!(text.starts_with("apiVersion: krew"), "{text}");
        for part in [
            "version: 'v1.2.3'",
            "uri: 'https://example.com/v1/ferrolb-linux-arm64.tar.gz'",
            &format!("sha256: '{}'", "2".repeat(64)),
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let error = filled(&template, "https://example.com", "1.2.3", &digests[..1]);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("@SHA256_ARM64@ has no value"), "{error}");
    }
}
