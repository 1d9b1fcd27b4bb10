//! Where the system describes itself, and how its small files are read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The directories in which the system describes itself. Tests put trees of their own here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
    /// Usually `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// Usually `/etc`.
    pub etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            cgroup: "/sys/fs/cgroup".into(),
            etc: "/etc".into(),
        }
    }
}

impl Roots {
    /// All of them under one directory: `<root>/proc`, `<root>/sys`, `<root>/sys/fs/cgroup`, `<root>/etc`.
    pub fn under(root: &Path) -> Self {
        Self {
            proc: root.join("proc"),
            sys: root.join("sys"),
            cgroup: root.join("sys/fs/cgroup"),
            etc: root.join("etc"),
        }
    }

    /// What `--sysfs-root DIR` means. A `DIR` that holds `sys` and `proc` is a whole system (of a test, or that of a host
    /// seen from a container): [`Roots::under`]. Else only `sys` is looked up elsewhere: in `DIR/sys` where that exists,
    /// or else in `DIR` itself.
    pub fn with_sysfs(dir: &Path) -> Self {
        let sys = dir.join("sys");
        match (sys.is_dir(), dir.join("proc").is_dir()) {
            (true, true) => Self::under(dir),
            (true, false) => Self {
                sys,
                ..Self::default()
            },
            (false, _) => Self {
                sys: dir.to_owned(),
                ..Self::default()
            },
        }
    }
}

/// More than any file that is read here has on a machine of 1024 CPUs.
const MAX_BYTES: u64 = 16 << 20;

/// The text of a file without the white space around it; `None` when it cannot be read, is no text, or is empty.
pub(crate) fn text(path: &Path) -> Option<String> {
    // Most of these files fit, and are then read at once: a look at a process is a dozen of them.
    let mut bytes = Vec::with_capacity(4096);
    File::open(path)
        .ok()?
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number that a file holds alone.
pub(crate) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// The numbers of a list such as `0-3,8,10-11`, ascending and without repetition; `None` when it is malformed.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // No kernel numbers that many CPUs; a hostile list must not fill the memory.
        if first > last || last >= 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-3,8,10-11\n").unwrap(), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(cpu_list("5,1,1-2").unwrap(), [1, 2, 5]);
        assert_eq!(cpu_list("").unwrap(), [0usize; 0]);
        for bad in ["3-1", "a", "1-", "-1", "0-99999999999", "0-65536"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn where_sysfs_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let plain = Roots::with_sysfs(root);
        assert_eq!((plain.sys, plain.proc), (root.to_owned(), "/proc".into()));
        std::fs::create_dir(root.join("sys")).unwrap();
        let inside = Roots::with_sysfs(root);
        assert_eq!(
            (inside.sys, inside.proc),
            (root.join("sys"), "/proc".into())
        );
        std::fs::create_dir(root.join("proc")).unwrap();
        assert_eq!(Roots::with_sysfs(root), Roots::under(root));
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        assert_eq!(text(&path), None);
        std::fs::write(&path, " 42 \n").unwrap();
        assert_eq!(text(&path).unwrap(), "42");
        assert_eq!(number::<u64>(&path), Some(42));
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(text(&path), None);
        assert_eq!(number::<u64>(&path), None);
        std::fs::write(&path, [0xff, b'1']).unwrap();
        assert_eq!(number::<u64>(&path), None);
        assert_eq!(text(dir.path()), None);
    }
}
