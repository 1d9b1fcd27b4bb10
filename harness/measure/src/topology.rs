//! In which order CPUs are given to threads.

use std::cmp::Reverse;

use crate::Roots;
use crate::roots::{cpu_list, number, text};
use crate::sys::affinity;

/// The CPUs that the process may use, in the order in which a team takes them: one hardware thread of each core
/// before any second one, fast cores before slow ones, one socket before the next. `None` where the system does not
/// tell which CPUs are allowed.
pub fn cpu_order() -> Option<Vec<usize>> {
    affinity::process_cpus().map(|allowed| order(&Roots::default(), allowed))
}

/// The order of `allowed` by the topology under `roots`.
pub(crate) fn order(roots: &Roots, allowed: &[usize]) -> Vec<usize> {
    // Intel lists the cores of a hybrid processor by kind; Arm gives every core a capacity.
    let atoms = text(&roots.sys.join("devices/cpu_atom/cpus"))
        .and_then(|list| cpu_list(&list))
        .unwrap_or_default();
    let key = |cpu: usize| {
        let directory = roots.sys.join(format!("devices/system/cpu/cpu{cpu}"));
        let siblings = text(&directory.join("topology/thread_siblings_list"))
            .and_then(|list| cpu_list(&list))
            .unwrap_or_default();
        let sibling = siblings
            .iter()
            .filter(|&&other| other < cpu && allowed.contains(&other))
            .count();
        let capacity: u64 = number(&directory.join("cpu_capacity")).unwrap_or(0);
        let package: i64 = number(&directory.join("topology/physical_package_id")).unwrap_or(0);
        (
            sibling,
            atoms.contains(&cpu),
            Reverse(capacity),
            package,
            cpu,
        )
    };
    let mut cpus = allowed.to_vec();
    cpus.sort_by_cached_key(|&cpu| key(cpu));
    cpus
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn cpu(root: &Path, cpu: usize, siblings: &str, package: &str) {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        write(root, &format!("{directory}/thread_siblings_list"), siblings);
        write(root, &format!("{directory}/physical_package_id"), package);
    }

    #[test]
    fn physical_cores_come_before_their_siblings() {
        let dir = tempfile::tempdir().unwrap();
        // Two sockets of two cores; siblings are 4 apart.
        for i in 0..8 {
            cpu(
                dir.path(),
                i,
                &format!("{},{}", i % 4, i % 4 + 4),
                &format!("{}", i % 2),
            );
        }
        let roots = Roots::under(dir.path());
        assert_eq!(
            order(&roots, &[0, 1, 2, 3, 4, 5, 6, 7]),
            [0, 2, 1, 3, 4, 6, 5, 7]
        );
        // A sibling that is not allowed does not push its twin back.
        assert_eq!(order(&roots, &[1, 4, 5]), [4, 1, 5]);
        // Siblings that are neighbours.
        for i in 0..4 {
            cpu(
                dir.path(),
                i,
                &format!("{}-{}", i / 2 * 2, i / 2 * 2 + 1),
                "0",
            );
        }
        assert_eq!(order(&roots, &[0, 1, 2, 3]), [0, 2, 1, 3]);
    }

    #[test]
    fn fast_cores_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..4 {
            cpu(dir.path(), i, &i.to_string(), "0");
            let capacity = if i < 2 { "446" } else { "1024" };
            write(
                dir.path(),
                &format!("sys/devices/system/cpu/cpu{i}/cpu_capacity"),
                capacity,
            );
        }
        assert_eq!(
            order(&Roots::under(dir.path()), &[0, 1, 2, 3]),
            [2, 3, 0, 1]
        );

        let dir = tempfile::tempdir().unwrap();
        for i in 0..4 {
            cpu(
                dir.path(),
                i,
                if i < 2 { "0-1" } else { ["2", "3"][i - 2] },
                "0",
            );
        }
        write(dir.path(), "sys/devices/cpu_atom/cpus", "2-3\n");
        assert_eq!(
            order(&Roots::under(dir.path()), &[0, 1, 2, 3]),
            [0, 2, 3, 1]
        );
    }

    #[test]
    fn without_a_topology_the_order_is_by_number() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(order(&Roots::under(dir.path()), &[3, 5, 9]), [3, 5, 9]);
    }
}
