//! Distribution functions: normal, Student's t, binomial; through the incomplete gamma and beta functions.

use std::f64::consts::PI;

/// Relative precision at which series and continued fractions stop.
const PRECISION: f64 = 1e-16;
/// Smallest denominator in Lentz's method.
const TINY: f64 = 1e-300;

/// `ln Γ(x)` for `x > 0`, by Lanczos' approximation with g = 7 and nine terms (relative error about 1e-15).
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = TERMS[1..]
        .iter()
        .enumerate()
        .fold(TERMS[0], |sum, (i, term)| sum + term / (x + i as f64 + 1.0));
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The upper regularised incomplete gamma function `Q(a, x)`: a series below `a + 1`, a continued fraction above.
fn gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term.abs() > sum.abs() * PRECISION {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        1.0 - sum * scale
    } else {
        let mut b = x + 1.0 - a;
        let mut c = 1.0 / TINY;
        let mut d = 1.0 / b;
        let mut h = d;
        for i in 1..10_000 {
            let i = f64::from(i);
            let an = -i * (i - a);
            b += 2.0;
            d = 1.0 / nonzero(an * d + b);
            c = nonzero(b + an / c);
            h *= d * c;
            if (d * c - 1.0).abs() < PRECISION {
                break;
            }
        }
        h * scale
    }
}

fn nonzero(x: f64) -> f64 {
    if x.abs() < TINY { TINY } else { x }
}

/// The regularised incomplete beta function `I_x(a, b)` by its continued fraction (Abramowitz and Stegun 26.5.8).
fn beta_i(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges quickly below the mean; above it the symmetric form does.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_i(b, a, 1.0 - x);
    }
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < PRECISION {
            break;
        }
    }
    (front * h).min(1.0)
}

/// The probability that a standard normal value is at most `z`; precise in both tails.
pub fn normal_cdf(z: f64) -> f64 {
    let tail = 0.5 * gamma_q(0.5, 0.5 * z * z);
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The value below which a standard normal falls with probability `p`; infinite at 0 and 1, NaN outside.
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    // Start: Abramowitz and Stegun 26.2.23, |error| < 4.5e-4; then Newton with Halley's correction on the lower tail.
    let t = (-2.0 * p.ln()).sqrt();
    let mut z = -(t
        - (2.515_517 + t * (0.802_853 + t * 0.010_328))
            / (1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308))));
    for _ in 0..4 {
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        let step = (normal_cdf(z) - p) / density;
        z -= step / (1.0 + 0.5 * z * step);
    }
    z
}

/// The probability that Student's t with `freedom` degrees of freedom (which need not be whole) is at most `t`.
pub fn student_t_cdf(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * beta_i(0.5 * freedom, 0.5, freedom / (freedom + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The quantile of Student's t; infinite at 0 and 1, NaN for a probability outside or a freedom that is not positive.
pub fn student_t_quantile(p: f64, freedom: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) || freedom.is_nan() || freedom <= 0.0 {
        return f64::NAN;
    }
    if p > 0.5 {
        return -student_t_quantile(1.0 - p, freedom);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    // The quantile lies in (low, 0]; the tail of one degree of freedom is the heaviest, so doubling ends.
    let mut low = -1.0;
    while student_t_cdf(low, freedom) > p && low > -1e300 {
        low *= 2.0;
    }
    let mut high = 0.0;
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if student_t_cdf(middle, freedom) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The probability of at most `successes` in `trials`, each with probability `p`.
pub fn binomial_cdf(successes: u64, trials: u64, p: f64) -> f64 {
    if successes >= trials {
        return 1.0;
    }
    beta_i((trials - successes) as f64, successes as f64 + 1.0, 1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance, "got {got}, want {want}");
    }

    #[test]
    fn normal_matches_the_table() {
        // Abramowitz and Stegun, table 26.1.
        for (z, want) in [
            (0.0, 0.5),
            (0.5, 0.691_462_461_274_013),
            (1.0, 0.841_344_746_068_543),
            (1.96, 0.975_002_104_851_780),
            (3.0, 0.998_650_101_968_370),
        ] {
            close(normal_cdf(z), want, 1e-14);
            close(normal_cdf(-z), 1.0 - want, 1e-14);
        }
        // Far tail, relative.
        assert!((normal_cdf(-10.0) / 7.619_853_024_160_527e-24 - 1.0).abs() < 1e-11);
    }

    #[test]
    fn normal_quantile_inverts_and_matches_the_table() {
        for (p, want) in [
            (0.975, 1.959_963_984_540_054),
            (0.995, 2.575_829_303_548_901),
            (0.95, 1.644_853_626_951_473),
            (0.999, 3.090_232_306_167_814),
        ] {
            close(normal_quantile(p), want, 1e-12);
        }
        for i in 1..400 {
            let p = f64::from(i) / 400.0;
            close(normal_cdf(normal_quantile(p)), p, 1e-14);
        }
        let far = normal_quantile(1e-20);
        assert!((normal_cdf(far) / 1e-20 - 1.0).abs() < 1e-10, "{far}");
        assert!(normal_quantile(-0.1).is_nan() && normal_quantile(1.0).is_infinite());
    }

    #[test]
    fn student_matches_the_table() {
        // Two-sided 95 % and one-sided 99.5 % critical values, table of any textbook.
        for (freedom, t975, t995) in [
            (1.0, 12.706_205, 63.656_741),
            (2.0, 4.302_653, 9.924_843),
            (5.0, 2.570_582, 4.032_143),
            (10.0, 2.228_139, 3.169_273),
            (30.0, 2.042_272, 2.749_996),
            (120.0, 1.979_930, 2.617_421),
        ] {
            close(student_t_quantile(0.975, freedom), t975, 1e-6);
            close(student_t_quantile(0.995, freedom), t995, 1e-6);
        }
        close(student_t_quantile(0.975, 1e7), normal_quantile(0.975), 1e-6);
    }

    #[test]
    fn binomial_equals_its_sum() {
        for trials in [1_u64, 2, 7, 30, 61] {
            for p in [0.01, 0.1, 0.5, 0.73, 0.99] {
                let mut sum = 0.0;
                for k in 0..=trials {
                    let ln_choose = ln_gamma(trials as f64 + 1.0)
                        - ln_gamma(k as f64 + 1.0)
                        - ln_gamma((trials - k) as f64 + 1.0);
                    sum += (ln_choose
                        + k as f64 * f64::ln(p)
                        + (trials - k) as f64 * f64::ln(1.0 - p))
                    .exp();
                    close(binomial_cdf(k, trials, p), sum, 1e-12);
                }
            }
        }
    }

    #[test]
    fn gamma_of_whole_numbers_is_the_factorial() {
        let mut factorial = 1.0_f64;
        for n in 1..30 {
            close(ln_gamma(f64::from(n)), factorial.ln(), 1e-12);
            factorial *= f64::from(n);
        }
        close(ln_gamma(0.5), 0.5 * PI.ln(), 1e-14);
    }
}
