//! Numbers for people: three significant digits and a unit.

/// Three significant digits, without an exponent; whole from 100 on.
pub(crate) fn three(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.9995 || size == 0.0 {
        2
    } else {
        // The first digit of 0.00123 is the third decimal: two more make three digits.
        (2 - size.log10().floor() as i32).clamp(2, 9) as usize
    };
    format!("{value:.decimals$}")
}

fn scaled(value: f64, steps: &[(f64, &str)]) -> String {
    let (scale, unit) = steps
        .iter()
        .copied()
        .find(|(scale, _)| value.abs() >= scale * 0.9995)
        .or(steps.last().copied())
        .unwrap_or((1.0, ""));
    format!("{} {unit}", three(value / scale))
        .trim_end()
        .to_owned()
}

/// The number that a text of this module stands for, to put texts in order; nothing for other texts.
pub(crate) fn magnitude(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: f64 = number.trim_end_matches('x').parse().ok()?;
    let unit = unit.split(' ').next().unwrap_or("");
    let scale = match unit {
        "T" => 1e12,
        "G" => 1e9,
        "M" => 1e6,
        "k" | "kJ" => 1e3,
        "ms" | "mJ" => 1e-3,
        "µs" | "µJ" => 1e-6,
        "ns" | "nJ" => 1e-9,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "KiB" => 1024.0,
        _ => 1.0,
    };
    Some(number * scale)
}

/// A time: `1.23 ms`.
pub fn show_ns(ns: f64) -> String {
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

/// An energy: `1.23 mJ`.
pub(crate) fn show_joules(joules: f64) -> String {
    scaled(
        joules,
        &[
            (1e3, "kJ"),
            (1.0, "J"),
            (1e-3, "mJ"),
            (1e-6, "µJ"),
            (1e-9, "nJ"),
        ],
    )
}

/// The unit for joules of which `most` is the largest, and what a joule is divided by to be in it: one unit for a whole axis.
pub(crate) fn joule_unit(most: f64) -> (f64, &'static str) {
    [(1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")]
        .into_iter()
        .find(|(scale, _)| most >= *scale)
        .unwrap_or((1e-9, "nJ"))
}

/// Bytes in binary units: `1.23 GiB`.
pub fn show_bytes(bytes: f64) -> String {
    const KIB: f64 = 1024.0;
    scaled(
        bytes,
        &[
            (KIB * KIB * KIB, "GiB"),
            (KIB * KIB, "MiB"),
            (KIB, "KiB"),
            (1.0, "B"),
        ],
    )
}

/// A rate or a count: `12.3 k`, `1.23 M`.
pub fn show_rate(value: f64) -> String {
    scaled(
        value,
        &[(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_the_order_of_their_numbers() {
        for (small, large) in [
            (show_ns(999.0), show_ns(1100.0)),
            (show_ns(9e5), show_ns(2e6)),
            (show_rate(950.0), show_rate(2100.0)),
            (show_bytes(1000.0), show_bytes(5e6)),
            (show_joules(9e-4), show_joules(2e-3)),
            ("9.50x".to_owned(), "12.0x".to_owned()),
            ("8 %".to_owned(), "12 %".to_owned()),
        ] {
            assert!(
                magnitude(&small).unwrap() < magnitude(&large).unwrap(),
                "{small} {large}"
            );
        }
        assert_eq!(magnitude("not told apart"), None);
        assert_eq!(magnitude(""), None);
    }

    #[test]
    fn three_digits_everywhere() {
        for (value, want) in [
            (0.0, "0.00"),
            (1.0, "1.00"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (12345.6, "12346"),
            (0.012_34, "0.0123"),
            (0.999_6, "1.00"),
            (-3.456_78, "-3.46"),
        ] {
            assert_eq!(three(value), want);
        }
    }

    #[test]
    fn units_change_where_the_digits_do() {
        assert_eq!(show_ns(999.4), "999 ns");
        assert_eq!(show_ns(999.6), "1.00 µs");
        assert_eq!(show_ns(1_234_567.0), "1.23 ms");
        assert_eq!(show_ns(72.5e9), "72.5 s");
        assert_eq!(show_ns(0.5), "0.500 ns");
        assert_eq!(show_bytes(1536.0), "1.50 KiB");
        assert_eq!(show_bytes(1_177_700_000.0), "1.10 GiB");
        assert_eq!(show_rate(9_999.0), "10.0 k");
        assert_eq!(show_rate(1_234.0), "1.23 k");
        assert_eq!(show_rate(523.0), "523");
        assert_eq!(show_rate(1.5e6), "1.50 M");
    }
}
