//! The share of the CPU that the kernel gives this process on a busy node, read once, when layer 2
//! starts. It comes from the CPU request of the container.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel's control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// `cpu.shares` of a request of 20m, with which the process was at most 7.4 ms late on a saturated
/// machine. Without a request, it is 2, and the process was 395 ms late.
const MIN_SHARES: u64 = 20;

/// The lowest `cpu.weight` that only a request gives. Without a request, it is 1. Runtimes before
/// runc 1.3.2 and crun 1.23 give `1 + (shares - 2) * 9999 / 262142`, which is 1 up to 28m; newer
/// ones give a request of 20m more than that.
const MIN_WEIGHT: u64 = 2;

/// Logs a warning if the process gets too little of a busy CPU. Nothing if the kernel doesn't say.
pub(super) fn warn_if_low() {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = Group::of(&groups) else {
        return;
    };
    let mut files = group.files(Path::new(ROOT)).into_iter();
    let read = files.find_map(|file| Some((fs::read_to_string(&file).ok()?, file)));
    if let Some((text, file)) = read
        && let Some(value) = group.low(&text)
    {
        tracing::warn!(
            "{} is {value}: the CPU request of the container is missing or too low, so this \
             process sends hellos late while the node is busy, and other nodes take its addresses \
             over; set resources.requests.cpu of the DaemonSet ferrolb-layer2 to 100m",
            file.display()
        );
    }
}

/// A control group that limits the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group<'a> {
    /// Of the first version, with its path below the mount of the CPU controller.
    V1(&'a str),
    /// Of the second version, with its path below the mount.
    V2(&'a str),
}

impl<'a> Group<'a> {
    /// Finds the group in the text of `/proc/self/cgroup`: lines of `ID:CONTROLLERS:PATH`. The
    /// second version has no controllers there, and may be mounted beside the first one.
    fn of(groups: &'a str) -> Option<Self> {
        let lines = || {
            groups.lines().filter_map(|line| {
                let (_, line) = line.split_once(':')?;
                line.split_once(':')
            })
        };
        let is_cpu = |controllers: &str| controllers.split(',').any(|name| name == "cpu");
        let v1 = lines().find(|(controllers, _)| is_cpu(controllers));
        let v2 = || lines().find(|(controllers, _)| controllers.is_empty());
        let v1 = v1.map(|(_, path)| Self::V1(path));
        v1.or_else(|| v2().map(|(_, path)| Self::V2(path)))
    }

    /// The file with the weight: the first that exists. In a container with the host's namespace
    /// of groups the path is the host's, while the mount may begin at the container's group.
    fn files(self, root: &Path) -> [PathBuf; 2] {
        let (mount, path, file) = match self {
            Self::V1(path) => (root.join("cpu"), path, "cpu.shares"),
            Self::V2(path) => (root.to_owned(), path, "cpu.weight"),
        };
        let group = mount.join(path.trim_start_matches('/'));
        [group.join(file), mount.join(file)]
    }

    /// The value in the file's text, if it is too low.
    fn low(self, text: &str) -> Option<u64> {
        let min = match self {
            Self::V1(_) => MIN_SHARES,
            Self::V2(_) => MIN_WEIGHT,
        };
        let value = text.trim().parse().ok()?;
        (value < min).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_the_controller_or_of_the_second_version() {
        let pod = "/kubepods/burstable/pod1/c1";
        let first = format!("9:name=systemd:/\n4:cpuset:/x\n3:cpuacct,cpu:{pod}\n0::/y\n");
        assert_eq!(Group::of(&first), Some(Group::V1(pod)));
        assert_eq!(Group::of("0::/\n"), Some(Group::V2("/")));
        // The path may contain colons, as with cri-o.
        assert_eq!(Group::of("0::/a:b:c"), Some(Group::V2("/a:b:c")));
        // The CPU controller may be compiled out.
        assert_eq!(Group::of("2:cpuset:/\n1:memory:/\n"), None);
        assert_eq!(Group::of(""), None);
    }

    #[test]
    fn the_file_is_below_the_path_or_at_the_mount_of_a_container() {
        let root = Path::new(ROOT);
        assert_eq!(
            Group::V1("/pod/c1").files(root),
            [
                Path::new("/sys/fs/cgroup/cpu/pod/c1/cpu.shares"),
                Path::new("/sys/fs/cgroup/cpu/cpu.shares"),
            ]
        );
        let private = Group::V2("/").files(root);
        assert!(
            private
                .iter()
                .all(|file| file == Path::new("/sys/fs/cgroup/cpu.weight"))
        );
    }

    #[test]
    fn the_weight_is_low_without_a_cpu_request_and_not_with_one_of_100m() {
        let shares = Group::V1("/");
        assert_eq!(shares.low("2\n"), Some(2));
        assert_eq!(shares.low("19\n"), Some(19));
        assert_eq!(shares.low("20\n"), None);
        assert_eq!(shares.low("102\n"), None);
        let weight = Group::V2("/");
        assert_eq!(weight.low("1\n"), Some(1));
        // Of 100m, by the two formulas of the runtimes.
        assert_eq!(weight.low("4\n"), None);
        assert_eq!(weight.low("17\n"), None);
        // A process outside of a container.
        assert_eq!(weight.low("100\n"), None);
        assert_eq!(weight.low("max\n"), None);
    }
}
