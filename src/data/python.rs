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

/// The shortest decimal that reads back as `value`, with a point.
pub(crate) fn float(value: f64) -> String {
    format!("{value:?}")
}

/// A one-dimensional integer tensor as torch prints it: right-aligned, wrapped at 80 columns.
pub(crate) fn integers(class: &str, values: &[i64]) -> String {
    if values.len() > 20 {
        return format!("{class} of size {}", values.len());
    }
    let texts: Vec<String> = values.iter().map(i64::to_string).collect();
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    let indent = class.len() + 1;
    let per_line = ((80 - indent.min(79)) / (width + 2)).max(1);
    let lines: Vec<String> = texts
        .chunks(per_line)
        .map(|l| l.iter().map(|t| format!("{t:>width$}")).collect::<Vec<_>>().join(", "))
        .collect();
    format!("{class}([{}])", lines.join(&format!(",\n{}", " ".repeat(indent + 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(repr(r"(.+)_\d+.jpg$"), r"'(.+)_\\d+.jpg$'");
        assert_eq!(repr("it's"), "\"it's\"");
        assert_eq!(repr("'\""), "'\\'\"'");
        assert_eq!(float(1.0), "1.0");
        assert_eq!(integers("TensorCategory", &[3, 17, 10, 4]), "TensorCategory([ 3, 17, 10,  4])");
        assert_eq!(integers("TensorCategory", &[0; 64]), "TensorCategory of size 64");
        assert!(integers("TensorCategory", &[100; 20]).contains(",\n                100"));
    }
}
