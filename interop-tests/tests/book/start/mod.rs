//! The quick starts: from nothing, and from MetalLB, to a Service that works, on real nodes.

pub(super) mod from_nothing;
pub(super) mod metallb;

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;
use ferrolb_interop_tests::book::Shell;
use ferrolb_interop_tests::kube::{ControlPlane, Image, deploy};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_interop_tests::scenario::Scratch;

/// The machine of a reader: a host with a kubeconfig, kubectl, ferrolb, also as its plugin, and a
/// checkout of the repository, of which the pages need `deploy`.
fn machine<'lab>(
    scratch: &Scratch,
    cp: &ControlPlane<'_>,
    host: &'lab Namespace,
    name: &str,
) -> Result<Shell<'lab>> {
    let folder = scratch.file(name);
    fs::create_dir_all(&folder)?;
    symlink(deploy().canonicalize()?, folder.join("deploy"))?;
    let program = ferrolb()?;
    Shell::new(&folder, move || host.command("bash"))?
        .administrator(cp, &folder)?
        .program("ferrolb", &program)?
        .program("kubectl-ferrolb", &program)
}

/// The programs with which a reader reaches the host `tor`, the router with FRR.
fn with_router<'lab>(
    scratch: &Scratch,
    shell: Shell<'lab>,
    tor: &Namespace,
) -> Result<Shell<'lab>> {
    let home = scratch.file("home-on-tor");
    fs::create_dir_all(&home)?;
    let (home, tor) = (home.display(), tor.name());
    shell
        .script("vtysh", &format!("exec /usr/bin/vtysh -N {tor} \"$@\""))?
        .script("scp", &format!("exec cp -- \"$1\" {home}/"))?
        .script(
            "ssh",
            &format!(
                "shift; cd {home} && exec nsenter --net=/run/netns/{tor} -- /bin/sh -c \"$*\""
            ),
        )
}

/// The application of the pages: Debian's busybox under the name of the official image of the same
/// version, with the programs that the pages run.
fn busybox() -> Image {
    let programs = ["httpd", "mkdir", "rm", "sh", "touch"];
    let image = Image::new("busybox:1.35");
    programs.iter().fold(image, |image, name| {
        image.file(format!("/bin/{name}"), "/bin/busybox")
    })
}
