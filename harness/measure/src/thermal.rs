//! How hot the processor is.

use std::path::PathBuf;

use crate::Roots;
use crate::roots::{number, text};

/// Drivers of `/sys/class/hwmon` whose temperatures are those of processors: Intel, AMD, and ARM boards.
const DRIVERS: [&str; 5] = [
    "coretemp",
    "k10temp",
    "zenpower",
    "cpu_thermal",
    "scpi_sensors",
];
/// Types of `/sys/class/thermal` that are processors; the rest are batteries, disks, and `acpitz`, which often is a constant.
const ZONES: [&str; 4] = ["x86_pkg_temp", "cpu", "soc", "TCPU"];

/// The sensors of the processor, looked up once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thermometers(Vec<PathBuf>);

impl Thermometers {
    /// Those of `hwmon`; without any, those of the thermal zones.
    pub(crate) fn find(roots: &Roots) -> Self {
        let entries = |class: &str| -> Vec<PathBuf> {
            let list = std::fs::read_dir(roots.sys.join("class").join(class));
            let mut paths: Vec<PathBuf> = list
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect();
            paths.sort_unstable();
            paths
        };
        let is = |path: PathBuf, file: &str, names: &[&str], whole: bool| {
            let name = text(&path.join(file))?;
            names
                .iter()
                .any(|known| name == *known || (!whole && name.starts_with(known)))
                .then_some(path)
        };
        let of_hwmon = entries("hwmon")
            .into_iter()
            .filter_map(|path| is(path, "name", &DRIVERS, true))
            .flat_map(|path| (1..=64).map(move |at| path.join(format!("temp{at}_input"))));
        let mut found: Vec<PathBuf> = of_hwmon
            .filter(|path| celsius_milli(path).is_some())
            .collect();
        if found.is_empty() {
            let of_zones = entries("thermal")
                .into_iter()
                .filter_map(|path| is(path, "type", &ZONES, false))
                .map(|path| path.join("temp"));
            found = of_zones
                .filter(|path| celsius_milli(path).is_some())
                .collect();
        }
        Self(found)
    }

    /// The hottest of them, in 1/1000 degrees Celsius.
    pub(crate) fn hottest_mc(&self) -> Option<i64> {
        self.0.iter().filter_map(|path| celsius_milli(path)).max()
    }

    /// Where they are.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

/// A temperature that silicon can have: drivers show 0 or huge numbers for sensors that are not there.
fn celsius_milli(path: &std::path::Path) -> Option<i64> {
    number(path).filter(|mc: &i64| (-40_000..=150_000).contains(mc) && *mc != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("sys/class").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let roots = Roots::under(dir.path());
        (dir, roots)
    }

    #[test]
    fn the_hottest_sensor_of_the_processor_counts() {
        let (_dir, roots) = tree(&[
            ("hwmon/hwmon0/name", "nvme\n"),
            ("hwmon/hwmon0/temp1_input", "90000\n"),
            ("hwmon/hwmon1/name", "coretemp\n"),
            ("hwmon/hwmon1/temp1_input", "61000\n"),
            ("hwmon/hwmon1/temp3_input", "63500\n"),
            ("hwmon/hwmon1/temp4_input", "255000\n"),
            ("thermal/thermal_zone0/type", "x86_pkg_temp\n"),
            ("thermal/thermal_zone0/temp", "80000\n"),
        ]);
        let found = Thermometers::find(&roots);
        assert_eq!(found.hottest_mc(), Some(63_500));
        assert_eq!(found.paths().len(), 2);
    }

    #[test]
    fn zones_serve_where_hwmon_has_none() {
        let (_dir, roots) = tree(&[
            ("hwmon/hwmon0/name", "k10temp\n"),
            ("hwmon/hwmon0/temp1_input", "no\n"),
            ("thermal/thermal_zone0/type", "acpitz\n"),
            ("thermal/thermal_zone0/temp", "27800\n"),
            ("thermal/thermal_zone1/type", "cpu-thermal\n"),
            ("thermal/thermal_zone1/temp", "48312\n"),
            ("thermal/thermal_zone2/type", "battery\n"),
            ("thermal/thermal_zone2/temp", "99000\n"),
        ]);
        assert_eq!(Thermometers::find(&roots).hottest_mc(), Some(48_312));
    }

    #[test]
    fn no_sensor_is_no_temperature() {
        let (_dir, roots) = tree(&[]);
        assert_eq!(Thermometers::find(&roots).hottest_mc(), None);
        let (_dir, roots) = tree(&[
            ("hwmon/hwmon0/name", "k10temp\n"),
            ("hwmon/hwmon0/temp1_input", "0\n"),
        ]);
        assert_eq!(Thermometers::find(&roots), Thermometers::default());
    }
}
