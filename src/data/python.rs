//! How Python writes values: `summary` and a few error texts are compared letter by letter with fastai's.

/// `repr` of a string: single quotes unless only double ones avoid escaping; backslashes doubled.
pub(crate) fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// `True` or `False`.
pub(crate) fn boolean(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// `repr` of a float: the shortest decimal that reads back as `value`, with a point, and an exponent of two digits at least for what is below
/// 1e-4 or not below 1e16.
pub(crate) fn float(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        Ok(e) if !(-4..16).contains(&e) => {
            format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        }
        _ => format!("{value:?}"),
    }
}

/// A one-dimensional integer tensor as torch prints it: right-aligned, wrapped at 80 columns.
pub(crate) fn integers(class: &str, values: &[i64]) -> String {
    if values.len() > 20 {
        return format!("{class} of size {}", values.len());
    }
    listed(class, values.iter().map(i64::to_string).collect())
}

/// Numbers right-aligned to the widest and wrapped at 80 columns.
fn listed(class: &str, texts: Vec<String>) -> String {
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    let indent = class.len() + 1;
    let per_line = ((80 - indent.min(79)) / (width + 2)).max(1);
    let lines: Vec<String> = texts
        .chunks(per_line)
        .map(|l| l.iter().map(|t| format!("{t:>width$}")).collect::<Vec<_>>().join(", "))
        .collect();
    format!("{class}([{}])", lines.join(&format!(",\n{}", " ".repeat(indent + 1))))
}

/// A tensor without dimensions, as torch prints it.
pub(crate) fn scalar(class: &str, value: f32) -> String {
    format!("{class}({})", numbers(&[value])[0])
}

/// A one-dimensional tensor of floats as torch prints it.
pub(crate) fn floats(class: &str, values: &[f32]) -> String {
    match values.len() {
        n if n > 20 => format!("{}{} of size {n}", class[..1].to_uppercase(), &class[1..]),
        _ => listed(class, numbers(values)),
    }
}

/// torch's rule for floats: whole numbers with a bare point, others with four decimals, all of them with an exponent when they
/// are very large, very small or far apart.
fn numbers(values: &[f32]) -> Vec<String> {
    let sizes = || values.iter().filter(|v| v.is_finite() && **v != 0.0).map(|v| f64::from(v.abs()));
    let (most, least) = (sizes().fold(0.0, f64::max), sizes().fold(f64::INFINITY, f64::min));
    let whole = values.iter().all(|v| !v.is_finite() || v.fract() == 0.0);
    let exponent = most > 0.0 && (most / least > 1000.0 || most > 1e8 || (!whole && least < 1e-4));
    let text = |v: &f32| match v {
        v if !v.is_finite() => {
            if v.is_nan() {
                "nan".into()
            } else {
                format!("{v}")
            }
        }
        v if exponent => {
            let text = format!("{:.4e}", f64::from(*v));
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            let power: i32 = power.parse().unwrap_or(0);
            format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
        }
        v if whole => format!("{v:.0}."),
        v => format!("{:.4}", f64::from(*v)),
    };
    values.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        let floats = [0.1, 1.0, 1e-4, 1e-5, 2.5e-7, 1e15, 1e16, -1.5e22, 0.0, f64::NAN, f64::NEG_INFINITY].map(float);
        let python = [
            "0.1",
            "1.0",
            "0.0001",
            "1e-05",
            "2.5e-07",
            "1000000000000000.0",
            "1e+16",
            "-1.5e+22",
            "0.0",
            "nan",
            "-inf",
        ];
        assert_eq!(floats, python);
        assert_eq!(repr(r"(.+)_\d+.jpg$"), r"'(.+)_\\d+.jpg$'");
        assert_eq!(repr("it's"), "\"it's\"");
        assert_eq!(repr("'\""), "'\\'\"'");
        assert_eq!(float(1.0), "1.0");
        assert_eq!(integers("TensorCategory", &[3, 17, 10, 4]), "TensorCategory([ 3, 17, 10,  4])");
        assert_eq!(integers("TensorCategory", &[0; 64]), "TensorCategory of size 64");
        assert!(integers("TensorCategory", &[100; 20]).contains(",\n                100"));
    }
}
