//! What the control group of this process allows, versions 1 and 2.

use std::path::{Path, PathBuf};

use crate::Roots;
use crate::roots::{number, text};

/// The limits and counters of the control groups that this process is in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cgroup {
    /// CPUs' worth of time that it may use; `None` without a limit.
    pub cpu_quota: Option<f64>,
    /// Bytes of memory it may use; `None` without a limit.
    pub memory_limit_bytes: Option<u64>,
    /// The most memory that our group had at once, page cache and everybody else in the group included; `None` where the
    /// kernel does not keep it (version 2 before Linux 5.19, and the root of version 2).
    pub memory_peak_bytes: Option<u64>,
    /// Time for which our group, or one above it, was kept from running because its quota was used up, so far;
    /// `None` when unknown.
    pub throttled_ns: Option<u64>,
}

/// The control groups of this process.
pub fn cgroup() -> Cgroup {
    Cgroup::read(&Roots::default())
}

impl Cgroup {
    /// The control groups of this process, as files under `roots` tell.
    pub fn read(roots: &Roots) -> Self {
        let list = text(&roots.proc.join("self/cgroup")).unwrap_or_default();
        let cpu = Place::find(roots, &list, "cpu");
        let memory = Place::find(roots, &list, "memory");
        Self {
            // A group is bound by all groups above it as well.
            cpu_quota: cpu
                .levels()
                .filter_map(|level| level.quota())
                .reduce(f64::min),
            memory_limit_bytes: memory
                .levels()
                .filter_map(|level| level.memory_limit())
                .min(),
            memory_peak_bytes: MemoryPeak::of(&memory).read(),
            throttled_ns: ThrottledTime::of(&cpu).read(),
        }
    }
}

/// The file in which the kernel keeps the largest memory of our control group.
#[derive(Clone, Debug)]
pub(crate) struct MemoryPeak(Option<PathBuf>);

impl MemoryPeak {
    pub(crate) fn find(roots: &Roots) -> Self {
        let list = text(&roots.proc.join("self/cgroup")).unwrap_or_default();
        Self::of(&Place::find(roots, &list, "memory"))
    }

    /// Our own group alone: a group above has others in it.
    fn of(memory: &Place) -> Self {
        let own = memory.directories.first();
        let names = ["memory.peak", "memory.max_usage_in_bytes"];
        let mut files = own
            .into_iter()
            .flat_map(|own| names.map(|name| own.join(name)));
        Self(files.find(|path| number::<u64>(path).is_some()))
    }

    pub(crate) fn read(&self) -> Option<u64> {
        number(self.0.as_ref()?)
    }
}

/// Where a controller's files are: the groups from our own up to the root.
struct Place {
    directories: Vec<PathBuf>,
}

struct Level<'a>(&'a Path);

/// The files that tell for how long our group and those above it were kept from running.
pub(crate) struct ThrottledTime(Vec<PathBuf>);

impl ThrottledTime {
    pub(crate) fn find(roots: &Roots) -> Self {
        let list = text(&roots.proc.join("self/cgroup")).unwrap_or_default();
        Self::of(&Place::find(roots, &list, "cpu"))
    }

    fn of(cpu: &Place) -> Self {
        let telling = cpu.levels().filter(|level| level.throttled_ns().is_some());
        Self(telling.map(|level| level.0.to_owned()).collect())
    }

    /// The groups that count.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// The sum over all levels: one level's time does not contain another's. They may overlap, so it is evidence of
    /// throttling and not a duration.
    pub(crate) fn read(&self) -> Option<u64> {
        let times = self.0.iter().map(|path| Level(path).throttled_ns());
        times
            .collect::<Option<Vec<u64>>>()?
            .into_iter()
            .reduce(u64::saturating_add)
    }
}

impl Place {
    fn find(roots: &Roots, list: &str, controller: &str) -> Self {
        // Lines are `<id>:<controllers>:<path>`; version 2 is `0::<path>`.
        let mut unified = "/";
        let mut own = None;
        for line in list.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            if controllers.is_empty() {
                unified = path;
            } else if controllers.split(',').any(|name| name == controller) {
                own = Some((controllers, path));
            }
        }
        let mut directories = Vec::new();
        if let Some((controllers, path)) = own {
            // The mount is named like the set of controllers, with a link for each of them.
            let mount = [controllers, controller].map(|name| roots.cgroup.join(name));
            if let Some(mount) = mount.into_iter().find(|mount| mount.is_dir()) {
                climb(&mount, path, &mut directories);
            }
        }
        if directories.is_empty() {
            let hybrid = roots.cgroup.join("unified");
            let mount = if hybrid.is_dir() {
                hybrid
            } else {
                roots.cgroup.clone()
            };
            climb(&mount, unified, &mut directories);
        }
        Self { directories }
    }

    fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        self.directories.iter().map(|path| Level(path))
    }
}

/// The directories from `mount/path` up to `mount`, those that exist: inside a container the path may be the one that
/// the host sees, while the mount is our own group already.
fn climb(mount: &Path, path: &str, directories: &mut Vec<PathBuf>) {
    // A path that leads out of the mount (`/../..`, a group outside of our namespace) says nothing about us.
    let inside = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    let parts: Vec<&str> = inside.collect();
    let depth = if parts.contains(&"..") {
        0
    } else {
        parts.len()
    };
    for count in (0..=depth).rev() {
        let directory = parts[..count]
            .iter()
            .fold(mount.to_owned(), |path, part| path.join(part));
        if directory.is_dir() {
            directories.push(directory);
        }
    }
}

impl Level<'_> {
    fn quota(&self) -> Option<f64> {
        let (quota, period) = if let Some(line) = text(&self.0.join("cpu.max")) {
            let mut words = line.split_ascii_whitespace();
            // `max 100000` is no limit.
            let quota: f64 = words.next()?.parse().ok()?;
            // The period's default, from the kernel's documentation of cgroup-v2.
            (
                quota,
                words
                    .next()
                    .map_or(Some(100_000.0), |word| word.parse().ok())?,
            )
        } else {
            let read = |name: &str| text(&self.0.join(name))?.parse::<f64>().ok();
            // -1 is no limit.
            (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
        };
        (quota > 0.0 && quota.is_finite() && period > 0.0 && period.is_finite())
            .then(|| quota / period)
    }

    fn memory_limit(&self) -> Option<u64> {
        // Version 1 writes "no limit" as the largest multiple of a page.
        const NONE: u64 = 1 << 62;
        let limit = text(&self.0.join("memory.max"))
            .or_else(|| text(&self.0.join("memory.limit_in_bytes")))?;
        limit.parse().ok().filter(|&bytes| bytes < NONE)
    }

    fn throttled_ns(&self) -> Option<u64> {
        let stat = text(&self.0.join("cpu.stat"))?;
        let field = |name: &str| -> Option<u64> {
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.trim().parse().ok()
        };
        // Version 2 counts microseconds, version 1 nanoseconds.
        match field("throttled_usec") {
            Some(us) => us.checked_mul(1000),
            None => field("throttled_time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let roots = Roots::under(dir.path());
        (dir, roots)
    }

    #[test]
    fn version_2_takes_the_tightest_of_all_levels() {
        let (_dir, roots) = tree(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 5\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/cpu.stat", "throttled_usec 1\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            (
                "sys/fs/cgroup/a/b/cpu.stat",
                "usage_usec 7\nnr_throttled 2\nthrottled_usec 1234\n",
            ),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.peak", "4096\n"),
            ("sys/fs/cgroup/a/memory.peak", "8192\n"),
        ]);
        let want = Cgroup {
            cpu_quota: Some(1.5),
            memory_limit_bytes: Some(1_000_000),
            memory_peak_bytes: Some(4096),
            throttled_ns: Some(1_235_000),
        };
        assert_eq!(Cgroup::read(&roots), want);
    }

    #[test]
    fn version_1_and_a_path_of_the_host() {
        let (_dir, roots) = tree(&[
            (
                "proc/self/cgroup",
                "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n1:name=systemd:/x\n0::/\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/cpu,cpuacct/cpu.stat",
                "nr_periods 0\nnr_throttled 0\nthrottled_time 99\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/memory.max_usage_in_bytes", "777216\n"),
        ]);
        let want = Cgroup {
            cpu_quota: Some(2.5),
            memory_limit_bytes: None,
            memory_peak_bytes: Some(777_216),
            throttled_ns: Some(99),
        };
        assert_eq!(Cgroup::read(&roots), want);
    }

    #[test]
    fn no_limit_and_nonsense_are_none() {
        let (_dir, roots) = tree(&[
            ("proc/self/cgroup", "4:cpu:/\n0::/../../x\nbroken\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/cpu.stat", "throttled_time x\n"),
            ("sys/fs/cgroup/unified/memory.max", "12k\n"),
        ]);
        assert_eq!(Cgroup::read(&roots), Cgroup::default());
        let (_dir, roots) = tree(&[]);
        assert_eq!(Cgroup::read(&roots), Cgroup::default());
        for line in [
            "0 100000",
            "100000 0",
            "nan 100000",
            "inf 100000",
            "-5 100000",
            "5 x",
        ] {
            let (_dir, roots) = tree(&[("sys/fs/cgroup/cpu.max", line)]);
            assert_eq!(Cgroup::read(&roots), Cgroup::default(), "{line}");
        }
        let (_dir, roots) = tree(&[("sys/fs/cgroup/cpu.max", "50000")]);
        assert_eq!(Cgroup::read(&roots).cpu_quota, Some(0.5));
    }
}
