//! Where an axis has its ticks, and what they say.
//!
//! Linear: the step is 1, 2, 2.5 or 5 times a power of ten, the one that gives about as many ticks as there is room for.
//! Logarithmic: whole decades, written as powers of ten; between them 2 and 5 where the axis spans less than two decades.

/// A position in data units with its label.
pub(super) type Tick = (f64, String);

/// Ticks inside `low..=high`, about `wanted` of them.
pub(super) fn linear(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let rough = (high - low) / wanted.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return vec![];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let largest = low.abs().max(high.abs());
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).take(100).map(|k| (k as f64 * step, number(k as f64 * step, step, largest))).collect()
}

/// `value` with the digits that a step of `step` needs.
fn number(value: f64, step: f64, largest: f64) -> String {
    if !(1e-3..1e7).contains(&largest) {
        let text = format!("{value:e}");
        // 3.0000000000000004e-7: as many digits as the step distinguishes.
        let digits = (largest.log10().floor() - step.log10().floor()).max(0.0) as usize + 1;
        let text = if text.len() > 8 { format!("{value:.digits$e}") } else { text };
        return if value == 0.0 { "0".into() } else { text.replace('-', "−") };
    }
    let decimals = (0..9).find(|d| (step * 10f64.powi(*d) - (step * 10f64.powi(*d)).round()).abs() < 1e-6).unwrap_or(9);
    format!("{value:.0$}", decimals as usize).replace('-', "−")
}

/// Labelled ticks of a logarithmic axis; `low` and `high` are positive.
pub(super) fn log(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let (from, to) = (low.log10(), high.log10());
    let decades = (to + 1e-9).floor() - (from - 1e-9).ceil();
    if decades < 1.0 {
        let steps = [1.0, 2.0, 5.0];
        let all = (from.floor() as i32..=to.ceil() as i32).flat_map(|d| steps.map(|m| m * 10f64.powi(d)));
        let ticks: Vec<Tick> = all.filter(|v| *v >= low && *v <= high).map(|v| (v, plain(v))).collect();
        return if ticks.is_empty() { linear(low, high, 3) } else { ticks };
    }
    let every = ((decades + 1.0) / wanted.max(1) as f64).ceil().max(1.0) as usize;
    let decades = (from - 1e-9).ceil() as i32..=(to + 1e-9).floor() as i32;
    decades.step_by(every).map(|d| (10f64.powi(d), power_of_ten(d))).collect()
}

/// The unlabelled ticks 2 .. 9 of each decade.
pub(super) fn log_minor(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = decades.flat_map(|d| (2..10).map(move |m| f64::from(m) * 10f64.powi(d)));
    all.filter(|v| *v >= low && *v <= high).collect()
}

fn plain(value: f64) -> String {
    if (1e-3..1e5).contains(&value) { format!("{value}") } else { format!("{value:e}").replace('-', "−") }
}

fn power_of_ten(exponent: i32) -> String {
    match exponent {
        0 => return "1".into(),
        1 => return "10".into(),
        _ => {}
    }
    let digit = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32(0x2070 + (c as u32 - '0' as u32)).unwrap_or(c),
    };
    format!("10{}", exponent.to_string().chars().map(digit).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<Tick>) -> String {
        ticks.into_iter().map(|t| t.1).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(labels(linear(0.0, 100.0, 5)), "0 20 40 60 80 100");
        assert_eq!(labels(linear(0.31, 3.4, 6)), "1 2 3");
        assert_eq!(labels(linear(-0.02, 0.0104, 5)), "−0.02 −0.01 0.00 0.01");
        assert_eq!(labels(linear(0.85, 0.95, 4)), "0.850 0.875 0.900 0.925 0.950");
        assert_eq!(labels(linear(0.0, 3e-6, 3)), "0 1e−6 2e−6 3e−6");
        assert_eq!(labels(linear(0.0, 3e8, 3)), "0 1e8 2e8 3e8");
        assert_eq!(labels(linear(1.0, 1.0, 5)), "");
        assert_eq!(labels(linear(f64::NAN, 1.0, 5)), "");
    }

    #[test]
    fn log_ticks_are_decades() {
        assert_eq!(labels(log(1e-7, 10.0, 9)), "10⁻⁷ 10⁻⁶ 10⁻⁵ 10⁻⁴ 10⁻³ 10⁻² 10⁻¹ 1 10");
        assert_eq!(labels(log(1e-7, 10.0, 5)), "10⁻⁷ 10⁻⁵ 10⁻³ 10⁻¹ 10");
        assert_eq!(labels(log(0.5, 4.0, 5)), "0.5 1 2");
        assert_eq!(log_minor(1.0, 10.0).len(), 8);
    }
}
