//! The manifests, the chart and the manifest of krew, for an image and archives that have digests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Arch, Pack, Scratch, helm, sha256};
use crate::step::{command, output, root, show_and_run};

/// The image in the manifests of the repository.
const IMAGE: &str = "image: ferrolb:dev\n";

/// The archive of the overlays.
pub(super) const KUSTOMIZE: &str = "ferrolb-kustomize.tar.gz";

/// The image of a release.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Its name with the registry, without a tag.
    pub(super) name: &'a str,
    /// Of the image of all architectures.
    pub(super) digest: &'a str,
    pub(super) version: &'a str,
    pub(super) architectures: &'a [Arch],
}

impl Image<'_> {
    fn by_digest(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }
}

/// Writes `ferrolb.yaml` with the image by digest.
///
/// # Errors
/// When the manifests have another image.
pub(super) fn write(image: &Image<'_>, out: &Path) -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/ferrolb.yaml"))?;
    fs::write(out.join("ferrolb.yaml"), pinned(&text, image)?)?;
    Ok(())
}

fn pinned(text: &str, image: &Image<'_>) -> Result<String> {
    let (found, images) = (text.matches(IMAGE).count(), text.matches("image: ").count());
    ensure!(
        found > 0 && found == images,
        "deploy/ferrolb.yaml: {found} of {images} images are ferrolb:dev"
    );
    let generated = text.lines().next().unwrap_or_default();
    ensure!(generated.starts_with('#'), "no comment in the first line");
    let text = text.replacen(&format!("{generated}\n"), "", 1);
    Ok(text.replace(IMAGE, &format!("image: {}\n", image.by_digest())))
}

/// Packs the overlays of kustomize and what they read, with the image by digest.
///
/// # Errors
/// When `cp` or `tar` fails, or the base has images of its own.
pub(super) fn kustomize(pack: &Pack, image: &Image<'_>, out: &Path) -> Result<()> {
    let scratch = Scratch::new(out, "kustomize")?;
    for folder in ["manifests", "kustomize", "monitoring"] {
        let source = root().join("deploy").join(folder);
        output(command("cp", &["--recursive"]).arg(source).arg(&scratch.0))?;
    }
    let base = scratch.0.join("manifests/kustomization.yaml");
    let text = fs::read_to_string(&base)?;
    fs::write(&base, with_images(&text, image)?)?;
    pack.tar_gz(&out.join(KUSTOMIZE), &scratch.0)
}

fn with_images(base: &str, image: &Image<'_>) -> Result<String> {
    ensure!(!base.contains("\nimages:"), "the base has images");
    // The comment explains how to replace the image, which has another name now.
    let explained = "images: [{name: ferrolb,";
    ensure!(base.contains(explained), "no comment with {explained:?}");
    let Image { name, digest, .. } = image;
    let base = base.replacen(explained, &format!("images: [{{name: {name},"), 1);
    Ok(format!(
        "{base}images:\n  - {{name: ferrolb, newName: {name}, digest: '{digest}'}}\n"
    ))
}

/// Packs the chart with the image as its default.
///
/// # Errors
/// When Helm fails, or values.yaml or Chart.yaml has another image.
pub(super) fn chart(image: &Image<'_>, out: &Path) -> Result<()> {
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
    fs::write(&values, with_image(&text, image)?)?;
    let metadata = chart.join("Chart.yaml");
    let text = fs::read_to_string(&metadata)?;
    fs::write(&metadata, with_annotation(&text, image)?)?;
    let helm = helm()?;
    let mut package = command(&helm.to_string_lossy(), &["package", "--destination"]);
    show_and_run(package.arg(out).arg(&chart))
}

/// `values.yaml` with the image as its default.
fn with_image(values: &str, image: &Image<'_>) -> Result<String> {
    let old = "  repository: ferrolb\n  tag: dev\n";
    let no_digest = "  digest: \"\"\n";
    ensure!(
        values.contains(old) && values.matches(no_digest).count() == 1,
        "values.yaml: no image ferrolb:dev without a digest"
    );
    let Image {
        name,
        version,
        digest,
        ..
    } = image;
    let new = format!("  repository: {name}\n  tag: \"{version}\"\n");
    let values = values.replacen(old, &new, 1);
    Ok(values.replacen(no_digest, &format!("  digest: {digest}\n"), 1))
}

/// `Chart.yaml` with the image in the annotation that Artifact Hub reads.
fn with_annotation(chart: &str, image: &Image<'_>) -> Result<String> {
    let old = "      image: ferrolb:dev\n      platforms: [linux/amd64, linux/arm64]\n";
    ensure!(chart.contains(old), "Chart.yaml: no image ferrolb:dev");
    let platforms = image.architectures.iter();
    let platforms: Vec<String> = platforms
        .map(|arch| format!("linux/{}", arch.name()))
        .collect();
    let Image {
        name,
        version,
        digest,
        ..
    } = image;
    let new = format!(
        "      image: {name}:{version}@{digest}\n      platforms: [{}]\n",
        platforms.join(", ")
    );
    Ok(chart.replacen(old, &new, 1))
}

/// Writes `krew.yaml`, which names the archives of these architectures.
///
/// # Errors
/// When an archive can't be read.
pub(super) fn krew(url: &str, version: &str, built: &[Arch], out: &Path) -> Result<()> {
    let template = fs::read_to_string(root().join("deploy/krew/ferrolb.yaml"))?;
    let mut digests = Vec::new();
    for arch in built {
        digests.push((*arch, sha256(&out.join(arch.archive()))?));
    }
    let text = filled(&template, url, version, &digests)?;
    fs::write(out.join("krew.yaml"), text)?;
    Ok(())
}

/// The template without the platforms of architectures that were not built.
fn of_architectures(template: &str, digests: &[(Arch, String)]) -> String {
    let mark = "    - selector:";
    let mut parts = template.split(mark);
    let head = parts.next().unwrap_or_default().to_owned();
    let built = parts.filter(|part| {
        let of = |(arch, _): &(Arch, String)| part.contains(&format!("arch: {}}}", arch.name()));
        digests.iter().any(of)
    });
    built.fold(head, |text, part| text + mark + part)
}

fn filled(template: &str, url: &str, version: &str, digests: &[(Arch, String)]) -> Result<String> {
    // The comment explains the template.
    let lines = template.lines().skip_while(|line| line.starts_with('#'));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let mut text = of_architectures(&text, digests);
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

    const DIGEST: &str = "sha256:aaaa";

    fn release(architectures: &[Arch]) -> Image<'_> {
        Image {
            name: "registry.example/ferrolb",
            digest: DIGEST,
            version: "1.2.3",
            architectures,
        }
    }

    #[test]
    fn every_image_in_the_manifests_has_the_digest() {
        let text = shipped("ferrolb.yaml");
        let image = release(&[]);
        let pinned = pinned(&text, &image).expect("manifests");
        let line = format!("image: registry.example/ferrolb@{DIGEST}\n");
        assert_eq!(
            pinned.matches("image: ").count(),
            text.matches(IMAGE).count()
        );
        assert_eq!(pinned.matches(&line).count(), 3);
        assert!(!pinned.contains("Generated from"), "{}", &pinned[..200]);
        let other = format!("{text}image: other:latest\n");
        let error = super::pinned(&other, &image).unwrap_err().to_string();
        assert!(error.contains("3 of 4 images"), "{error}");
    }

    #[test]
    fn the_base_of_kustomize_has_the_image_of_the_release() {
        let base = shipped("manifests/kustomization.yaml");
        let text = with_images(&base, &release(&[])).expect("a base");
        let images = "\nimages:\n  - {name: ferrolb, newName: registry.example/ferrolb, \
                      digest: 'sha256:aaaa'}\n";
        assert!(text.ends_with(images), "{text}");
        assert!(text.contains("#   images: [{name: registry.example/ferrolb, newName"));
        let error = with_images(&text, &release(&[])).unwrap_err().to_string();
        assert!(error.contains("the base has images"), "{error}");
    }

    #[test]
    fn the_chart_has_the_image_of_the_release() {
        let values = shipped("helm/ferrolb/values.yaml");
        let image = release(&[Arch::Arm64]);
        let new = with_image(&values, &image).expect("values");
        let lines = "image:\n  repository: registry.example/ferrolb\n  tag: \"1.2.3\"\n";
        assert!(new.contains(lines), "{new}");
        assert!(new.contains("\n  digest: sha256:aaaa\n"), "{new}");
        assert!(with_image("image: {}\n", &image).is_err());
        let chart = shipped("helm/ferrolb/Chart.yaml");
        let new = with_annotation(&chart, &image).expect("a chart");
        let lines = "image: registry.example/ferrolb:1.2.3@sha256:aaaa\n      \
                     platforms: [linux/arm64]\n";
        assert!(new.contains(lines), "{new}");
        assert!(with_annotation(&new, &image).is_err());
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
        let one = filled(&template, "https://example.com", "1.2.3", &digests[..1]).expect("one");
        assert!(
            one.contains("arch: amd64") && !one.contains("arm64"),
            "{one}"
        );
        let error = filled("a: @OTHER@\n", "https://example.com", "1.2.3", &digests);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("@OTHER@ has no value"), "{error}");
    }
}
