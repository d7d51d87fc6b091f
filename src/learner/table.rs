//! fastai's training table, character for character, trailing blanks included: whoever compares two runs with `diff` should
//! see two runs. A pure function of names and numbers.

use super::Row;
use crate::data::python;

/// The width of a cell at least: six decimals of a loss.
const NARROWEST: usize = 8;

/// fastai's training table.
///
/// ```
/// use onecycle::learner::Table;
/// let table = Table::new(["error_rate"]);
/// assert_eq!(table.header(), "epoch     train_loss  valid_loss  error_rate  time    ");
/// let row = table.row(0, &[Some(1.661858), Some(0.836439), Some(0.7)], 65.4);
/// assert_eq!(row, "0         1.661858    0.836439    0.700000    01:05     ");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    names: Vec<String>,
}

impl Table {
    /// A table with a column for each metric, between the losses and the time.
    pub fn new<S: Into<String>>(metrics: impl IntoIterator<Item = S>) -> Table {
        let fixed = ["epoch", "train_loss", "valid_loss"].map(String::from);
        let names = fixed.into_iter().chain(metrics.into_iter().map(Into::into)).chain(["time".to_string()]);
        Table { names: names.collect() }
    }

    /// The columns' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The header line.
    pub fn header(&self) -> String {
        let cells: Vec<String> = self.names.iter().map(|n| format!("{n:NARROWEST$}")).collect();
        cells.join("  ")
    }

    /// The cells of an epoch: train_loss, valid_loss and metrics (`None` without validation), then the time. An epoch that was left out has
    /// no numbers, and as in fastai the time comes next.
    pub fn cells(&self, epoch: usize, values: &[Option<f64>], seconds: f64) -> Vec<String> {
        let number = |v: &Option<f64>| match v {
            None => "None".to_string(),
            Some(v) if v.is_nan() => "nan".to_string(),
            Some(v) => format!("{v:.6}"),
        };
        let left_out = values.iter().all(Option::is_none);
        let numbers = values.iter().filter(|_| !left_out).map(number);
        [epoch.to_string()].into_iter().chain(numbers).chain([format_time(seconds)]).collect()
    }

    /// The line of an epoch.
    pub fn row(&self, epoch: usize, values: &[Option<f64>], seconds: f64) -> String {
        let width = |i: usize| self.names.get(i).map_or(0, |n| n.chars().count()).max(NARROWEST) + 2;
        let cells = self.cells(epoch, values, seconds);
        cells.iter().enumerate().map(|(i, cell)| format!("{cell:0$}", width(i))).collect()
    }
}

/// The header of a table with these metrics, as CSV.
pub(super) fn csv_header(metrics: &[String]) -> String {
    Table::new(metrics).names().join(",")
}

/// An epoch's numbers as CSV: fastai's text, all digits.
pub(super) fn csv_line(row: &Row) -> String {
    let values = row.values();
    let left_out = values.iter().all(Option::is_none);
    let numbers = values.into_iter().filter(|_| !left_out).map(|v| v.map_or("None".to_string(), python::float));
    let cells = [row.epoch.to_string()].into_iter().chain(numbers).chain([format_time(row.seconds)]);
    cells.collect::<Vec<_>>().join(",")
}

/// Whole seconds, truncated: `01:05`, from one hour on `1:01:05`.
pub fn format_time(seconds: f64) -> String {
    // A cast of NaN or of a negative number is 0.
    let s = seconds as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::recorded;
    use super::*;

    fn fixture(name: &str) -> Option<String> {
        recorded(name).map(|path| std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn parity_with_fastais_table() {
        let (Some(json), Some(text)) = (fixture("recorder.json"), fixture("recorder_table.txt")) else { return };
        let recorded: serde_json::Value = serde_json::from_str(&json).unwrap();
        let names: Vec<String> = serde_json::from_value(recorded["metric_names"].clone()).unwrap();
        let rows: Vec<Vec<f64>> = serde_json::from_value(recorded["values"].clone()).unwrap();
        let table = Table::new(names[3..names.len() - 1].to_vec());
        assert_eq!(table.names(), names);
        let row = |(epoch, values): (usize, &Vec<f64>)| {
            table.row(epoch, &values.iter().map(|v| Some(*v)).collect::<Vec<_>>(), 0.0)
        };
        let lines: Vec<String> = [table.header()].into_iter().chain(rows.iter().enumerate().map(row)).collect();
        assert_eq!(lines.join("\n"), text.trim_matches('\n'));
    }

    #[test]
    fn parity_with_fastais_history() {
        let Some(text) = fixture("recorder_history.csv") else { return };
        let cells = |line: &str| line.split(',').map(String::from).collect::<Vec<String>>();
        let lines: Vec<Vec<String>> = text.lines().map(cells).collect();
        let names = lines[0][2..lines[0].len() - 1].to_vec();
        let line = |(epoch, cells): (usize, &Vec<String>)| {
            let values: Vec<f64> = cells[1..cells.len() - 1].iter().map(|cell| cell.parse().unwrap()).collect();
            let (train_loss, valid) = (Some(values[0]), Some(values[1..].to_vec()));
            csv_line(&Row { epoch, train_loss, valid, names: names.clone(), seconds: 0.0, waited: 0.0 })
        };
        let written: Vec<String> =
            [csv_header(&names[1..])].into_iter().chain(lines[1..].iter().enumerate().map(line)).collect();
        assert_eq!(written.join("\n"), text.trim_end());
    }

    #[test]
    fn parity_of_times() {
        let Some(json) = fixture("recorder.json") else { return };
        let recorded: serde_json::Value = serde_json::from_str(&json).unwrap();
        let times: Vec<(f64, String)> = serde_json::from_value(recorded["time_format"].clone()).unwrap();
        for (seconds, text) in times {
            assert_eq!(format_time(seconds), text);
        }
        assert_eq!(format_time(f64::NAN), "00:00");
    }

    #[test]
    fn without_validation_the_cells_say_none() {
        let row = Table::new(["error_rate"]).row(12, &[Some(0.5), None, None], 3665.0);
        assert_eq!(row, "12        0.500000    None        None        1:01:05   ");
        // As Python prints them.
        let row = Table::new(["r2"]).row(0, &[Some(f64::INFINITY), Some(-0.0), Some(f64::NAN)], 1.0);
        assert_eq!(row, "0         inf         -0.000000   nan       00:01     ");
    }
}
