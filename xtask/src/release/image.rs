//! The image for all architectures as an OCI archive, as deploy/Dockerfile builds it: no container
//! engine is needed, and its digest is known before it is pushed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Arch, Pack, Scratch, sha256};

/// The archive.
pub(super) const FILE: &str = "ferrolb-image.tar";

/// The user in deploy/Dockerfile.
const USER: &str = "65532:65532";

/// The static program of an architecture.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) arch: Arch,
    pub(super) path: PathBuf,
}

/// Writes the archive. Returns the digest of the image, which covers all architectures.
///
/// # Errors
/// When a file can't be written, or `tar` fails.
pub(super) fn write(
    pack: &Pack,
    programs: &[Program],
    version: &str,
    out: &Path,
) -> Result<String> {
    let scratch = Scratch::new(out, "image")?;
    let layout = scratch.0.join("layout");
    let blobs = Blobs {
        folder: layout.join("blobs/sha256"),
    };
    fs::create_dir_all(&blobs.folder)?;
    let mut manifests = Vec::new();
    for Program { arch, path } in programs {
        let files = scratch.0.join(arch.name());
        fs::create_dir_all(&files)?;
        fs::copy(path, files.join("ferrolb"))?;
        let layer = scratch.0.join("layer.tar");
        pack.tar(&layer, &files)?;
        let uncompressed = sha256(&layer)?;
        fs::remove_file(&layer)?;
        let compressed = scratch.0.join("layer.tar.gz");
        pack.tar_gz(&compressed, &files)?;
        let layer = blobs.add_file(&compressed, "application/vnd.oci.image.layer.v1.tar+gzip")?;
        let config = json!({
            "architecture": arch.name(),
            "os": "linux",
            "config": {
                "Entrypoint": ["/ferrolb"],
                "User": USER,
                "Labels": {
                    "org.opencontainers.image.title": "ferrolb",
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.licenses": "Apache-2.0",
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{uncompressed}")] },
        });
        let config = blobs.add(&config, "application/vnd.oci.image.config.v1+json")?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
        });
        let mut manifest = blobs.add(&manifest, MANIFEST)?;
        manifest["platform"] = json!({ "architecture": arch.name(), "os": "linux" });
        manifests.push(manifest);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut index = blobs.add(&index, INDEX)?;
    let digest = index["digest"].as_str().unwrap_or_default().to_owned();
    index["annotations"] = json!({ "org.opencontainers.image.ref.name": version });
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [index] });
    fs::write(layout.join("index.json"), top.to_string())?;
    let layout_version = json!({ "imageLayoutVersion": "1.0.0" });
    fs::write(layout.join("oci-layout"), layout_version.to_string())?;
    pack.tar(&out.join(FILE), &layout)?;
    Ok(digest)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Contents, each in a file that its digest names.
struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    fn add(&self, content: &Value, media_type: &str) -> Result<Value> {
        let file = self.folder.join("new");
        fs::write(&file, content.to_string())?;
        self.add_file(&file, media_type)
    }

    /// Moves a file here. Returns its descriptor.
    fn add_file(&self, file: &Path, media_type: &str) -> Result<Value> {
        let digest = sha256(file)?;
        let size = fs::metadata(file)?.len();
        fs::rename(file, self.folder.join(&digest))?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{command, output, root};

    #[test]
    fn the_image_runs_the_program_of_each_architecture_as_the_dockerfile_says() {
        let folder = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        let scratch = Scratch::new(&folder, "test").expect("a folder");
        let program = scratch.0.join("program");
        fs::write(&program, "a program").expect("a file");
        let programs = [Arch::Amd64, Arch::Arm64].map(|arch| Program {
            arch,
            path: program.clone(),
        });
        let pack = Pack {
            time: "1700000000".to_owned(),
        };
        let digest = write(&pack, &programs, "1.2.3", &scratch.0).expect("an image");
        output(
            command("tar", &["-xf"])
                .arg(scratch.0.join(FILE))
                .arg("-C")
                .arg(&scratch.0),
        )
        .expect("unpacked");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let file = scratch
                .0
                .join("blobs/sha256")
                .join(&digest["sha256:".len()..]);
            assert_eq!(
                format!("sha256:{}", sha256(&file).expect("a digest")),
                digest
            );
            assert_eq!(
                fs::metadata(&file).expect("a file").len(),
                descriptor["size"]
            );
            file
        };
        let json_of = |descriptor: &Value| -> Value {
            let text = fs::read_to_string(blob(descriptor)).expect("text");
            serde_json::from_str(&text).expect("JSON")
        };
        let top = fs::read_to_string(scratch.0.join("index.json")).expect("an index");
        let top: Value = serde_json::from_str(&top).expect("JSON");
        let index = &top["manifests"][0];
        assert_eq!(index["digest"], digest);
        let manifests = json_of(index)["manifests"].clone();
        let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).expect("a file");
        for (manifest, arch) in manifests
            .as_array()
            .expect("two")
            .iter()
            .zip(["amd64", "arm64"])
        {
            assert_eq!(manifest["platform"]["architecture"], arch);
            let manifest = json_of(manifest);
            let config = json_of(&manifest["config"]);
            assert_eq!(config["architecture"], arch);
            let settings = &config["config"];
            assert!(dockerfile.contains(&format!("USER {}\n", settings["User"].as_str().unwrap())));
            let entrypoint = format!("ENTRYPOINT {}", settings["Entrypoint"]);
            assert!(dockerfile.contains(&entrypoint), "{entrypoint}");
            let layer = blob(&manifest["layers"][0]);
            let names = output(command("tar", &["-tzf"]).arg(layer)).expect("a layer");
            assert_eq!(names, "ferrolb\n");
        }
        drop(scratch);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
