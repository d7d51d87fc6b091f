//! Every figure as PNG and as SVG: valid, with ink where it belongs, for the values that runs really bring.
//!
//! `ONECYCLE_SAMPLES=DIR cargo test --test plots samples` leaves the pictures in DIR, to be looked at.
#![cfg(feature = "plot")]

use image::RgbImage;
use onecycle::data::Picture;
use onecycle::plot::{self, Captioned, Chart, Figure, Scale, Style};
use std::path::{Path, PathBuf};

fn decode(png: &[u8]) -> RgbImage {
    image::load_from_memory_with_format(png, image::ImageFormat::Png).expect("a PNG").to_rgb8()
}

/// The share of pixels in a part of the picture, given in shares of its size, that are not white.
fn ink(image: &RgbImage, x: std::ops::Range<f32>, y: std::ops::Range<f32>) -> f32 {
    let at = |share: f32, size: u32| (share * size as f32) as u32;
    let (w, h) = image.dimensions();
    let (mut dark, mut all) = (0u32, 0u32);
    for row in at(y.start, h)..at(y.end, h) {
        for column in at(x.start, w)..at(x.end, w) {
            all += 1;
            dark += u32::from(image.get_pixel(column, row).0 != [255; 3]);
        }
    }
    dark as f32 / all.max(1) as f32
}

fn count(image: &RgbImage, colour: [u8; 3]) -> usize {
    image.pixels().filter(|p| p.0 == colour).count()
}

/// Fails unless every tag is closed in order and every attribute is quoted.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = vec![];
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "a stray > in {:.80}", rest);
        let end = rest[at..].find('>').expect("every tag ends") + at;
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag:.80}>");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "tags close in order");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} stay open");
    for entity in xml.split('&').skip(1) {
        assert!(["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|e| entity.starts_with(e)), "&{entity:.10}");
    }
}

fn both(figure: &Figure) -> RgbImage {
    assert_well_formed(&figure.to_svg());
    decode(&figure.to_png(1.0).expect("drawn"))
}

fn losses(n: usize) -> Vec<f64> {
    (0..n).map(|i| 3.8 * (-(i as f64) / 70.0).exp() + 0.35 + 0.05 * (i as f64 * 0.9).sin()).collect()
}

fn names(n: usize) -> Vec<String> {
    let breeds = [
        "Abyssinian",
        "Bengal",
        "Birman",
        "beagle",
        "boxer",
        "great_pyrenees",
        "Égyptien",
        "staffordshire_bull_terrier",
    ];
    (0..n).map(|i| if i < breeds.len() { breeds[i].into() } else { format!("class_{i}") }).collect()
}

/// Mostly right, with a few favourite mistakes.
fn counts(n: usize) -> Vec<Vec<usize>> {
    let cell = |i: usize, j: usize| match (i, j) {
        _ if i == j => 30 + (i * 7) % 12,
        _ if (i * 31 + j * 17).is_multiple_of(23) => 1 + (i + j) % 4,
        _ if i + 1 == j && i.is_multiple_of(5) => 14,
        _ => 0,
    };
    (0..n).map(|i| (0..n).map(|j| cell(i, j)).collect()).collect()
}

/// Something to look at: a disc on a gradient.
fn picture(width: usize, height: usize, hue: usize) -> Picture {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.5);
            let disc = (dx * dx + dy * dy).sqrt() < 0.12 + 0.03 * (hue % 7) as f32;
            let base = [90 + 17 * (hue % 9), 60 + 23 * (hue % 6), 120 + 11 * (hue % 11)];
            let shade = |c: usize| if disc { 255 - c / 2 } else { c * (height + y) / (2 * height) };
            rgb.extend(base.map(|c| shade(c).min(255) as u8));
        }
    }
    Picture { width, height, rgb }
}

fn lr_find() -> Figure {
    let lrs: Vec<f64> = (0..100).map(|i| 10f64.powf(-7.0 + 0.08 * f64::from(i))).collect();
    let losses: Vec<f64> =
        lrs.iter().map(|lr| 4.6 - 2.6 / (1.0 + (3e-3 / lr).powf(1.1)) + (lr / 0.6).powi(2)).collect();
    plot::lr_find(&lrs, &losses, &[("minimum".into(), lrs[77], losses[77]), ("valley".into(), lrs[60], losses[60])], 5)
}

#[test]
fn a_learning_curve_has_both_lines() {
    let image = both(&plot::loss_curve(&losses(460), &[(92, 1.5), (184, 0.9), (276, 0.6), (368, 0.5), (460, 0.45)], 5));
    assert!(count(&image, [0x2a, 0x64, 0xc8]) > 300, "train");
    assert!(count(&image, [0xe0, 0x6c, 0x1f]) > 200, "valid");
    assert!(ink(&image, 0.0..0.5, 0.0..0.1) > 0.01, "title");
    assert!(ink(&image, 0.3..0.7, 0.93..1.0) > 0.005, "x label");
}

#[test]
fn validation_before_skip_start_is_left_out() {
    let svg = plot::loss_curve(&losses(20), &[(3, 9.0)], 5).to_svg();
    assert!(svg.contains(">train<") && !svg.contains(">valid<"));
}

#[test]
fn a_learning_curve_can_be_logarithmic_and_show_its_epochs() {
    let chart = || plot::loss_chart(&losses(460), &[], 5);
    let svg = |chart| Figure::of(chart).to_svg();
    let lines = |svg: &str| svg.matches("<polyline").count();
    let plain = svg(chart());
    assert_eq!(lines(&svg(chart().verticals([92.0, 184.0, 276.0]))), lines(&plain) + 3);
    assert_eq!(svg(chart().verticals([1e9, f64::NAN])), plain, "lines beyond the chart are left out");
    assert_ne!(svg(chart().scales(Scale::Log, Scale::Log)), plain);
}

#[test]
fn the_other_charts_have_ink() {
    let lrs: Vec<f64> = (0..100).map(|i| 1e-2 * (f64::from(i) / 32.0).sin().abs()).collect();
    let moms: Vec<f64> = lrs.iter().map(|lr| 0.95 - 10.0 * lr).collect();
    let schedule = both(&plot::schedule(&[("lr", &lrs), ("mom", &moms)]));
    for half in [0.1..0.5, 0.6..1.0] {
        assert!(ink(&schedule, half, 0.1..0.8) > 0.01);
    }
    let finder = both(&lr_find());
    assert!(count(&finder, [0xe0, 0x6c, 0x1f]) > 40, "the suggestion's dot");
    assert!(lr_find().to_svg().contains("10⁻⁵"));
}

#[test]
fn charts_without_numbers_are_still_figures() {
    let nan = f64::NAN;
    for train in [vec![], vec![1.0], vec![nan; 9], vec![0.0; 9], vec![1.0, nan, f64::INFINITY, 2.0, 1e300, -1e300]] {
        for valid in [vec![], vec![(1, nan)], vec![(1, 0.5)]] {
            both(&plot::loss_curve(&train, &valid, 0));
        }
        both(&plot::schedule(&[("lr", &train), ("mom", &[])]));
        both(&plot::lr_find(&train, &train, &[("valley".into(), nan, nan)], 0));
        let points = train.iter().map(|v| (*v, *v)).collect();
        let chart = Chart::new("log").scales(Scale::Log, Scale::Log).series("s", Style::LineAndDots, points);
        both(&Figure::of(chart));
    }
}

#[test]
fn confusion_matrices_of_all_sizes() {
    for n in [1, 2, 5, 37, 120] {
        for normalize in [false, true] {
            let figure = plot::confusion_matrix(&names(n), &counts(n), normalize).unwrap();
            let image = both(&figure);
            assert!(count(&image, [0x08, 0x30, 0x6b]) > 30, "the largest cell of {n} classes is dark");
            assert!(image.width() < 1700 && image.height() < 1700, "{n} classes: {:?}", image.dimensions());
        }
    }
    let empty = plot::confusion_matrix(&[], &[], false).unwrap();
    both(&empty);
    both(&plot::confusion_matrix(&names(2), &[vec![0, 0], vec![0, 0]], true).unwrap());
    let err = plot::confusion_matrix(&names(3), &counts(2), false).unwrap_err();
    assert_eq!(err.to_string(), "confusion matrix: 3 labels need as many rows and columns of counts");
}

#[test]
fn shares_have_two_decimals_and_the_maximum_is_white_on_dark() {
    let svg = plot::confusion_matrix(&names(2), &[vec![3, 1], vec![0, 4]], true).unwrap().to_svg();
    assert!(
        svg.contains("class=\"oc-on-high\" fill=\"#ffffff\">0.75<") && svg.contains(">0.25<") && svg.contains(">1.00<")
    );
}

#[test]
fn labels_are_text_whatever_they_contain() {
    let hostile = vec!["<script>alert(1)</script>".to_string(), "a\"b' & c\u{0}\u{1b}[31m".to_string()];
    let svg = plot::confusion_matrix(&hostile, &counts(2), false).unwrap().to_svg();
    assert_well_formed(&svg);
    assert!(!svg.contains("<script") && !svg.contains('\u{0}') && !svg.contains('\u{1b}'));
    let long = vec!["x".repeat(5000), "猫".repeat(300)];
    let image = both(&plot::confusion_matrix(&long, &counts(2), false).unwrap());
    assert!(image.width() < 700);
    both(&Figure::of(Chart::new("t".repeat(3000)).series("n".repeat(3000), Style::Line, vec![(0.0, 1.0), (1.0, 2.0)])));
}

#[test]
fn a_grid_leaves_surplus_cells_blank() {
    let cells: Vec<_> = (0..5).map(|i| Captioned::labelled(picture(224, 224, i), "Żółw")).collect();
    let image = both(&plot::picture_grid(&cells, None, None).unwrap());
    assert!(ink(&image, 0.0..0.3, 0.1..0.5) > 0.7, "the first picture");
    assert_eq!(ink(&image, 0.68..1.0, 0.52..1.0), 0.0, "the sixth cell of 2 x 3");
    let odd: Vec<_> = [(1, 1), (3000, 10), (10, 900)].iter().map(|&(w, h)| picture(w, h, 3)).collect();
    let odd: Vec<_> =
        odd.into_iter().map(|p| Captioned::result(p, "a very long label ".repeat(9).trim(), "b")).collect();
    both(&plot::picture_grid(&odd, Some(1), None).unwrap().title("Actual/Predicted"));
    both(&plot::picture_grid(&[], None, None).unwrap());
}

#[test]
fn saving_goes_by_the_extension() {
    let dir = tempfile::tempdir().unwrap();
    let figure = plot::schedule(&[("lr", &losses(20)), ("mom", &losses(20))]);
    figure.save(dir.path().join("s.PNG")).unwrap();
    figure.save(dir.path().join("s.svg")).unwrap();
    assert!(std::fs::read_to_string(dir.path().join("s.svg")).unwrap().starts_with("<svg"));
    assert!(figure.save(dir.path().join("s.jpg")).unwrap_err().to_string().contains("s.jpg"));
    let err = figure.save(dir.path().join("missing/s.png")).unwrap_err();
    assert_eq!(err.kind(), onecycle::ErrorKind::Io);
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e6] {
        assert!(figure.to_png(scale).is_err(), "{scale}");
    }
}

#[test]
fn a_run_shorter_than_what_is_skipped_is_shown_whole() {
    let svg = plot::loss_curve(&losses(3), &[(3, 2.0)], 5).to_svg();
    assert!(!svg.contains("nothing recorded") && svg.contains(">valid<"));
}

#[test]
fn the_report_draws_for_screens_and_for_phones() {
    let section = |figure: &Figure| plot::Report::new("t", "").figure("h", "", figure).to_html();
    let widths = |html: &str| -> Vec<f32> {
        let after = html.split("<svg").skip(1).filter_map(|part| part.split_once(" width=\""));
        after.map(|(_, rest)| rest.split('"').next().unwrap().parse().unwrap()).collect()
    };
    let matrix = |n| plot::confusion_matrix(&names(n), &counts(n), false).unwrap();
    for figure in [plot::loss_curve(&losses(460), &[], 5), matrix(8)] {
        let html = section(&figure);
        let [large, small] = widths(&html)[..] else { panic!("two drawings") };
        assert!(large > 600.0 && small <= 340.0, "{large} and {small}");
        assert!(html.contains("\"figure large\"") && html.contains("\"figure small\""));
    }
    assert!(section(&matrix(120)).contains("\"figure wide small\""), "cells that could not be seen scroll instead");
    let many =
        (0..9).map(|i| Chart::new(format!("run {i}")).series("", Style::Line, vec![(0.0, 1.0), (1.0, 2.0)]).into());
    let html = section(&Figure::grid(many.collect(), 3));
    assert!(html.contains("\"figure many\"") && html.contains(">run 8<"), "their titles tell them apart");
    assert_eq!(widths(&html).len(), 9);
}

#[test]
fn the_best_row_is_marked_and_long_names_can_break() {
    let rows = [vec!["a".to_string(), "1".into()], vec!["a_long/name".into(), "0".into()]];
    let header = ["run", "error"].map(String::from);
    let html = plot::Report::new("t", "").ranking("Runs", "", &header, &rows, Some(1)).to_html();
    assert!(
        html.contains("<tr class=\"best\"><td>a_<wbr/>long/<wbr/>name <b>best</b></td><td class=\"n\">0</td></tr>")
    );
    assert_eq!(html.matches("<b>best</b>").count(), 1);
}

fn report() -> plot::Report {
    let class = |(i, label): (usize, String)| plot::report::ClassRow {
        label,
        support: 38 + i % 5,
        precision: 0.99 - 0.013 * i as f64,
        recall: 0.995 - 0.02 * i as f64,
        f1: 0.98 - 0.015 * i as f64,
    };
    let classes: Vec<_> = names(8).into_iter().enumerate().map(class).collect();
    let header: Vec<String> = ["epoch", "train_loss", "valid_loss", "error_rate", "time"].map(String::from).to_vec();
    let row = |e: usize| {
        let loss = 1.9 / (e as f64 + 1.0);
        vec![
            e.to_string(),
            format!("{loss:.6}"),
            format!("{:.6}", loss * 0.8),
            format!("{:.6}", loss * 0.15),
            "01:05".into(),
        ]
    };
    let lrs: Vec<f64> = (0..460).map(|i| 1e-2 * (f64::from(i) / 146.5).sin().powi(2)).collect();
    let moms: Vec<f64> = lrs.iter().map(|lr| 0.95 - 10.0 * lr).collect();
    let valid = [(92, 1.62), (184, 0.95), (276, 0.66), (368, 0.5), (460, 0.46)];
    let shapes = [(224, 224), (300, 200), (120, 260)];
    let batch: Vec<_> = (0..9).zip(names(9)).map(|(i, n)| Captioned::labelled(picture(224, 224, i), n)).collect();
    let losses_of = |i: usize| {
        let (w, h) = shapes[i % 3];
        let cell = Captioned::loss(picture(w, h, i), "beagle", &names(9)[i], 4.44 - 0.3 * i as f64, 0.74);
        cell.from_file(format!("images/beagle_{i}.jpg"))
    };
    let top: Vec<_> = (0..6).map(losses_of).collect();
    plot::Report::new("Oxford-IIIT Pets", "resnet34, 5 epochs of one-cycle, 5,912 training pictures in 37 classes")
        .headline("error rate", "5.9 %", "of 1,478 pictures")
        .headline("validation loss", "0.1873", "cross-entropy")
        .headline("epochs", "5", "460 batches of 64")
        .headline("time", "5:27", "on the CPU, 16 threads")
        .epochs(&header, &(0..5).map(row).collect::<Vec<_>>())
        .learning_curve(&plot::loss_curve(&losses(460), &valid, 5))
        .schedule(&plot::schedule(&[("lr", &lrs), ("mom", &moms)]))
        .batch(&batch)
        .confusion(&plot::confusion_matrix(&names(8), &counts(8), false).unwrap())
        .most_confused(&[("Birman".into(), "Ragdoll".into(), 5), ("<b>".into(), "beagle".into(), 3)])
        .top_losses(&top)
        .per_class(&classes)
        .settings("arch = \"resnet34\"\nepochs = 5\nlr = 0.01\n")
        .environment(&[("onecycle".into(), "0.1.0".into()), ("device".into(), "CPU, 16 threads".into())])
        .usage(&[
            ("Predict one picture", "onecycle predict runs/pets/model.safetensors photo.jpg".into()),
            ("Measure it on another folder", "onecycle evaluate runs/pets/model.safetensors pictures/".into()),
        ])
}

#[test]
fn the_report_is_whole_and_keeps_to_itself() {
    let html = report().to_html();
    let body = html.split_once("<main>").expect("a body").1.split_once("</body>").expect("its end").0;
    // HTML leaves `img` open; everything else has to close.
    let closed = body.split("<img").enumerate().map(|(i, part)| match i {
        0 => part.to_string(),
        _ => format!("<img{}", part.replacen("\">", "\"/>", 1)),
    });
    assert_well_formed(&format!("<main>{}", closed.collect::<String>()));
    for needed in [
        "lang=\"en\"",
        "5.9 %",
        "Learning curve",
        "Confusion matrix",
        "images/<wbr/>beagle_<wbr/>3.jpg",
        "&lt;b&gt;",
        "alt=\"",
    ] {
        assert!(html.contains(needed), "{needed}");
    }
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["http:", "https:", "<script", "<link", "@import", "url(", "<b>"] {
        assert!(!outside.contains(forbidden), "{forbidden}");
    }
    let empty = plot::Report::new("<script>", "").top_losses(&[]).epochs(&[], &[]).per_class(&[]).to_html();
    assert!(!empty.contains("<script") && empty.contains("&lt;script&gt;"));
}

/// Where the samples go: a directory that stays when one is asked for.
fn samples_dir(temporary: &Path) -> PathBuf {
    std::env::var_os("ONECYCLE_SAMPLES").map(PathBuf::from).unwrap_or_else(|| temporary.to_path_buf())
}

#[test]
fn samples() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = samples_dir(temporary.path());
    onecycle::fs::create_dir(&dir).unwrap();
    let valid = [(92, 1.62), (184, 0.95), (276, 0.66), (368, 0.5), (460, 0.46)];
    plot::loss_curve(&losses(460), &valid, 5).save(dir.join("loss.png")).unwrap();
    let step = |i: usize| i as f64 / 460.0;
    let lrs: Vec<f64> = (0..460).map(|i| 1e-2 * (step(i) * std::f64::consts::PI).sin().powi(2)).collect();
    let moms: Vec<f64> = lrs.iter().map(|lr| 0.95 - 10.0 * lr).collect();
    plot::schedule(&[("lr", &lrs), ("mom", &moms)]).save(dir.join("schedule.png")).unwrap();
    lr_find().save(dir.join("lr_find.png")).unwrap();
    for n in [2, 8, 37, 120] {
        let figure = plot::confusion_matrix(&names(n), &counts(n), false).unwrap();
        figure.save(dir.join(format!("confusion_{n}.png"))).unwrap();
        figure.save(dir.join(format!("confusion_{n}.svg"))).unwrap();
    }
    let shapes = [(224, 224), (300, 200), (120, 260)];
    let pictures = (0..9).map(|i| picture(shapes[i % 3].0, shapes[i % 3].1, i));
    let batch: Vec<_> = pictures.clone().zip(names(9)).map(|(p, n)| Captioned::labelled(p, n)).collect();
    plot::picture_grid(&batch, None, None).unwrap().save(dir.join("batch.png")).unwrap();
    let results: Vec<_> = pictures.zip(names(9)).map(|(p, n)| Captioned::result(p, &n, "beagle")).collect();
    plot::picture_grid(&results[..5], None, None).unwrap().save(dir.join("results.png")).unwrap();
    report().save(dir.join("report.html")).unwrap();
}
