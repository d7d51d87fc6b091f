//! The page that compares runs.
//!
//! Six runs have a colour each. More lines than that are a tangle in which nobody finds one: there each run has a small
//! chart of its own, in front of all others in grey, and the losses show the best run among the rest.

use super::{COLUMNS, Run};
use crate::learner::format_time;
use crate::plot::report::Report;
use crate::plot::{Chart, Figure, Panel, Style};

/// Runs that can be told apart by colour.
const COLOURS: usize = 6;

/// Runs that the line under the title names.
const NAMED: usize = 4;

pub(super) fn page(runs: &[Run]) -> Report {
    let best = best(runs);
    let names: Vec<&str> = runs.iter().take(NAMED).map(|run| run.name.as_str()).collect();
    let more = if runs.len() > NAMED { format!(" and {} more", runs.len() - NAMED) } else { String::new() };
    let title = if runs.len() == 1 { "1 run".to_string() } else { format!("{} runs", runs.len()) };
    let mut report = Report::new(title, names.join(", ") + &more);
    if let Some((run, error)) = best.and_then(|i| Some((&runs[i], runs[i].last("error_rate")?))) {
        report = report.headline("lowest error rate", format!("{:.1} %", 100.0 * error), &run.name);
    }
    let seconds: f64 = runs.iter().map(|run| run.seconds).sum();
    report = report.headline("time", format_time(seconds), "of all runs");
    let header: Vec<String> = ["run"].into_iter().chain(COLUMNS).map(String::from).collect();
    let rows: Vec<Vec<String>> = runs.iter().map(Run::cells).collect();
    let caption = "After the last epoch, and the lowest error rate of any. The best run is the one that ends lowest.";
    // Of one run there is no best.
    let marked = best.filter(|_| runs.len() > 1);
    report = report.ranking("Runs", caption, &header, &rows, marked);
    // A curve needs two epochs; before that the table has said it all.
    if runs.iter().any(|run| run.rows.len() > 1) {
        report = curves(report, runs, marked);
    }
    report = differences(report, "Settings", "Those in which the runs differ.", runs, |run| &run.settings);
    report = differences(report, "Environment", "Where the runs differ.", runs, |run| &run.environment);
    let places = runs.iter().map(|run| vec![run.name.clone(), run.dir.display().to_string()]).collect::<Vec<_>>();
    report.table(
        "Where they are",
        "Each has a report.html of its own.",
        &["run", "directory"].map(String::from),
        &places,
    )
}

/// The run that ends with the lowest error rate.
fn best(runs: &[Run]) -> Option<usize> {
    let ends = runs.iter().enumerate().filter_map(|(i, run)| Some((i, run.last("error_rate")?)));
    ends.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

fn curves(mut report: Report, runs: &[Run], best: Option<usize>) -> Report {
    let columns = [
        ("error_rate", "Error rate", "After each epoch, over all fits of a run."),
        ("valid_loss", "Validation loss", "After each epoch."),
        ("train_loss", "Training loss", "Smoothed, at the end of each epoch."),
    ];
    for (column, heading, caption) in columns {
        let all: Vec<Vec<(f64, f64)>> = runs.iter().map(|run| run.curve(column)).collect();
        if all.iter().all(Vec::is_empty) {
            continue;
        }
        let (figure, how) = match best {
            _ if runs.len() <= COLOURS => (together(runs, &all, best, column), ""),
            Some(best) if column != "error_rate" => (among(runs, &all, best, column), " The best run in blue."),
            _ => (one_by_one(runs, &all, best), " Each run in blue, in front of all others."),
        };
        report = report.figure(heading, &format!("{caption}{how}"), &figure);
    }
    report
}

fn chart(column: &str) -> Chart {
    Chart::new("").axes("epoch", column).whole_x()
}

fn marked(name: &str, is_best: bool) -> String {
    // In front, where a long name doesn't hide it.
    if is_best { format!("best: {name}") } else { name.to_string() }
}

/// All in one chart, each in its colour.
fn together(runs: &[Run], all: &[Vec<(f64, f64)>], best: Option<usize>, column: &str) -> Figure {
    let add = |chart: Chart, (i, points): (usize, &Vec<(f64, f64)>)| {
        chart.series(marked(&runs[i].name, best == Some(i)), Style::LineAndDots, points.clone())
    };
    Figure::of(all.iter().enumerate().fold(chart(column), add))
}

/// One in front of the others.
fn among(runs: &[Run], all: &[Vec<(f64, f64)>], best: usize, column: &str) -> Figure {
    let chart = chart(column).series(marked(&runs[best].name, true), Style::LineAndDots, all[best].clone());
    Figure::of(behind(chart, all, best, "the others"))
}

/// A small chart for each; all have the same axes, since all have the same lines.
fn one_by_one(runs: &[Run], all: &[Vec<(f64, f64)>], best: Option<usize>) -> Figure {
    let panel = |(i, points): (usize, &Vec<(f64, f64)>)| -> Panel {
        // The section's heading names the y axis.
        let chart = Chart::new(marked(&runs[i].name, best == Some(i))).axes("epoch", "").whole_x();
        behind(chart.series("", Style::LineAndDots, points.clone()), all, i, "").into()
    };
    Figure::grid(all.iter().enumerate().map(panel).collect(), 3).chart_size(280.0, 220.0)
}

fn behind(chart: Chart, all: &[Vec<(f64, f64)>], front: usize, name: &str) -> Chart {
    let others = all.iter().enumerate().filter(|(i, _)| *i != front);
    // One of them stands for all in the legend.
    others
        .enumerate()
        .fold(chart, |chart, (nth, (_, points))| chart.background(if nth == 0 { name } else { "" }, points.clone()))
}

/// The keys whose values are not the same in all runs; nothing where there are none. What is more, runs or keys, goes down the page.
fn differences(
    report: Report,
    heading: &str,
    caption: &str,
    runs: &[Run],
    of: impl Fn(&Run) -> &toml::Table,
) -> Report {
    let text = |run: &Run, key: &str| of(run).get(key).map_or("–".to_string(), plain);
    let mut keys: Vec<&String> = runs.iter().flat_map(|run| of(run).keys()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| *key != "out" && runs.iter().any(|run| text(run, key) != text(&runs[0], key)));
    if keys.is_empty() {
        return report;
    }
    if runs.len() > keys.len() {
        let header: Vec<String> =
            ["run"].into_iter().chain(keys.iter().map(|key| key.as_str())).map(String::from).collect();
        let row = |run: &Run| [run.name.clone()].into_iter().chain(keys.iter().map(|key| text(run, key))).collect();
        return report.table(heading, caption, &header, &runs.iter().map(row).collect::<Vec<Vec<String>>>());
    }
    let row = |key: &&String| [(*key).clone()].into_iter().chain(runs.iter().map(|run| text(run, key))).collect();
    let header: Vec<String> =
        [""].into_iter().chain(runs.iter().map(|run| run.name.as_str())).map(String::from).collect();
    report.table(heading, caption, &header, &keys.iter().map(row).collect::<Vec<Vec<String>>>())
}

/// A value as one says it: without quotes, and a list without its brackets.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of `epochs` epochs; the third one ends lowest.
    fn runs(n: usize, epochs: usize) -> Vec<Run> {
        let run = |i: usize| {
            let error = |e: usize| Some(0.9 / (e + 1) as f64 + if i == 2 { 0.0 } else { 0.01 * i as f64 + 0.01 });
            let mut settings = toml::Table::new();
            settings.insert("lr".into(), toml::Value::Float(0.001 * (i + 1) as f64));
            settings.insert("bs".into(), toml::Value::Integer(64));
            Run {
                name: format!("run-{i}"),
                dir: format!("runs/run-{i}").into(),
                columns: ["epoch", "train_loss", "valid_loss", "error_rate", "time"].map(String::from).to_vec(),
                rows: (0..epochs).map(|e| vec![Some(e as f64), error(e), error(e), error(e), None]).collect(),
                seconds: 60.0,
                settings,
                environment: toml::Table::new(),
            }
        };
        (0..n).map(run).collect()
    }

    fn colours(html: &str) -> usize {
        (0..9)
            .filter(|i| html.split_once("<main>").is_some_and(|(_, body)| body.contains(&format!("oc-s{i}\""))))
            .count()
    }

    #[test]
    fn a_few_runs_have_a_colour_each_and_the_best_is_marked() {
        let html = page(&runs(4, 5)).to_html();
        assert_eq!(colours(&html), 4);
        assert!(html.contains("<tr class=\"best\"><td>run-2 <b>best</b>") && html.contains(">best: run-2<"));
        assert_eq!(html.matches("class=\"best\"").count(), 1);
        let one = page(&runs(1, 5)).to_html();
        assert!(one.contains(">1 run<") && !one.contains("best: ") && !one.contains("class=\"best\""));
    }

    #[test]
    fn many_runs_have_a_chart_each() {
        let html = page(&runs(9, 5)).to_html();
        assert_eq!(colours(&html), 1, "no colour stands for two runs");
        // Error rates one by one; two losses, each drawn for screens and for phones.
        assert_eq!(html.matches("<svg").count(), 9 + 2 * 2);
        assert!(html.contains("run-0, run-1, run-2, run-3 and 5 more") && html.contains(">the others<"));
    }

    #[test]
    fn one_epoch_is_no_curve() {
        let html = page(&runs(2, 1)).to_html();
        assert!(!html.contains("<svg") && html.contains("0.920000"));
    }

    #[test]
    fn what_is_more_goes_down_the_page() {
        let html = page(&runs(3, 2)).to_html();
        assert!(html.contains(">lr</th>") && !html.contains(">bs<"), "only what differs");
        assert!(!html.contains("Environment"), "where nothing differs there is nothing to show");
        assert!(page(&runs(1, 2)).to_html().contains("Where they are"));
        assert_eq!(plain(&toml::Value::Array(vec![toml::Value::Integer(1), toml::Value::Integer(2)])), "1, 2");
    }
}
