//! The host of a page's router: the router's namespace with an `/etc` and a `/run` of its own, so
//! that the page's commands run there as on a machine with nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::book::Shell;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{Process, ferrolb, run};
use ferrolb_interop_tests::scenario::Scratch;

/// Time for the mounts: a copy of `/etc`.
const MOUNTED: Duration = Duration::from_secs(20);

/// Replaces `/etc` by a copy and `/run` by an empty folder, where the control socket of a node's
/// daemon is at its usual place: as if the page's commands for the node were run there.
const MOUNT: &str = r#"set -e
mount -t tmpfs -o mode=755 host /run
# Files that another test removes meanwhile are not needed.
cp -a /etc /run/etc 2> /dev/null || true
mount --bind /run/etc /etc
mkdir /run/ferrolb
ln -s "$1" /run/ferrolb/ferrolb.sock
touch "$2"
exec sleep infinity"#;

/// The router's host.
#[derive(Debug)]
pub(super) struct Host {
    folder: PathBuf,
    /// The process that the mount namespace belongs to.
    mounts: Process,
}

impl Host {
    /// Prepares the host in this namespace. `socket` is the control socket of a node's daemon.
    pub(super) fn start(scratch: &Scratch, namespace: &Namespace, socket: &Path) -> Result<Self> {
        let ready = scratch.file("mounted");
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-c", MOUNT, "sh"]);
        command.arg(socket).arg(&ready);
        let mut mounts = Process::start(scratch, "mounts", &command)?;
        eventually("the mounts", MOUNTED, || {
            mounts.ensure_running()?;
            ensure!(ready.exists(), "not mounted");
            Ok(())
        })?;
        Ok(Self {
            folder: scratch.path().to_owned(),
            mounts,
        })
    }

    /// The shell in which a page runs. At most one for each host.
    pub(super) fn shell(&self) -> Result<Shell<'_>> {
        Shell::new(&self.folder, || self.bash())?
            .program("ferrolb", &ferrolb()?)?
            .script("systemctl", include_str!("systemctl.sh"))
            .map(|shell| shell.variable("LAB_LOGS", &self.folder.display().to_string()))
    }

    /// What a script prints. It runs where the page runs, after [`Host::shell`].
    pub(super) fn run(&self, script: &str) -> Result<String> {
        let mut bash = self.bash();
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = self.folder.join("bin");
        bash.env("PATH", format!("{}:{path}", programs.display()));
        bash.env("LAB_LOGS", &self.folder);
        let script = format!("cd \"$1\"\n{script}");
        run(bash.args(["-ec", &script, "bash"]).arg(&self.folder))
    }

    fn bash(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.mounts.pid().to_string()]);
        command.args(["--net", "--mount", "--", "bash"]);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Otherwise it starts FRR's other processes again while the namespace is removed. There is
        // none with other routers.
        let _ = self.run("kill -KILL \"$(cat /run/frr/watchfrr.pid)\"");
    }
}
