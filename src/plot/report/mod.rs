//! A run on one page: `report.html`.
//!
//! The page is one file that can be mailed, put on a server or opened from a disk in ten years: charts are inline SVG,
//! pictures are PNG in base64, there is no script and no link to anywhere. It follows the reader's light or dark preference,
//! fits a phone, prints, and says in words what each picture shows. Every string that comes from outside (labels are
//! directory names, and a directory may be called `<script>`) is escaped on its way in.
//!
//! Sections appear in the order in which they are added; the methods with a name of their own bring heading and explanation
//! along, so that two programs' reports read alike. What it costs: nine pictures of 224 x 224 are some 700 KB of PNG.
//!
//! ```
//! use onecycle::plot::{Report, loss_curve};
//! let html = Report::new("Pets", "resnet34, 5 epochs")
//!     .headline("error rate", "5.9 %", "of 1,478 pictures")
//!     .figure("Learning curve", "Smoothed training loss.", &loss_curve(&[2.0, 1.5, 1.2], &[], 0))
//!     .to_html();
//! assert!(html.contains("5.9 %") && html.contains("<svg"));
//! ```

mod html;

use super::{Captioned, Figure};
use crate::Result;
use html::Tag;
use std::path::Path;

/// The width of a section's content on a wide screen, in pixels.
const PAGE_WIDTH: f32 = 838.0;

/// The same on a phone.
const PHONE_WIDTH: f32 = 340.0;

/// How one class fared.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRow {
    /// The class.
    pub label: String,
    /// Pictures of it in the validation set.
    pub support: usize,
    /// Of those predicted as this class, the share that is.
    pub precision: f64,
    /// Of those that are this class, the share that was found.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

/// A report under construction; see the [module](self).
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    subtitle: String,
    language: String,
    headlines: Vec<[String; 3]>,
    body: String,
}

impl Report {
    /// A report with a title and a line under it (what was trained on what, when).
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Report {
        let (title, subtitle) = (title.into(), subtitle.into());
        Report { title, subtitle, language: "en".into(), headlines: vec![], body: String::new() }
    }

    /// The language of the title and labels, for screen readers; `en` unless said.
    pub fn language(mut self, tag: impl Into<String>) -> Report {
        self.language = tag.into();
        self
    }

    /// A figure that stands at the top in large type: `("error rate", "5.9 %", "of 1,478 pictures")`.
    pub fn headline(mut self, label: &str, value: impl Into<String>, note: &str) -> Report {
        self.headlines.push([label.to_string(), value.into(), note.to_string()]);
        self
    }

    /// The table that training printed: one row an epoch.
    pub fn epochs(self, header: &[String], rows: &[Vec<String>]) -> Report {
        self.table("Epochs", "As printed during training; train_loss is smoothed over some 50 batches.", header, rows)
    }

    /// Pictures of a training batch as the network saw them.
    pub fn batch(self, cells: &[Captioned]) -> Report {
        self.pictures("A training batch", "As the network sees it, after augmentation.", cells)
    }

    /// The figure of [`loss_curve`](super::loss_curve).
    pub fn learning_curve(self, figure: &Figure) -> Report {
        let caption = "Training loss after each batch, smoothed; validation loss after each epoch.";
        self.figure("Learning curve", caption, figure)
    }

    /// The figure of [`schedule`](super::schedule).
    pub fn schedule(self, figure: &Figure) -> Report {
        let caption = "Learning rate and momentum of the last layer group in every step: the one-cycle policy.";
        self.figure("Schedule", caption, figure)
    }

    /// The figure of [`confusion_matrix`](super::confusion_matrix).
    pub fn confusion(self, figure: &Figure) -> Report {
        let caption = "Rows are what the pictures show, columns what was predicted; the diagonal is right.";
        self.figure("Confusion matrix", caption, figure)
    }

    /// The most frequent mistakes: `(actual, predicted, count)`.
    pub fn most_confused(self, pairs: &[(String, String, usize)]) -> Report {
        let header = ["actual", "predicted", "times"].map(String::from);
        let rows: Vec<_> = pairs.iter().map(|(a, p, n)| vec![a.clone(), p.clone(), n.to_string()]).collect();
        self.table("Most confused", "Which class was taken for which, most frequent first.", &header, &rows)
    }

    /// The pictures with the largest losses, with their files.
    pub fn top_losses(self, cells: &[Captioned]) -> Report {
        let caption = "Prediction / actual / loss / probability. A wrong label often hides here.";
        self.pictures("Top losses", caption, cells)
    }

    /// Precision and recall of each class, with a bar for the recall.
    pub fn per_class(mut self, rows: &[ClassRow]) -> Report {
        let caption = "Recall is the share of a class's pictures that were recognised, precision the share of its \
                       predictions that were right.";
        self.open("Per class", caption);
        html::class_table(&mut self.body, rows);
        self.close()
    }

    /// The settings, in the form that `--config` reads.
    pub fn settings(self, toml: &str) -> Report {
        self.folded("Settings", "Save this as a file and pass it with --config to repeat the run.", toml)
    }

    /// Names and values that say where the run took place: version, device, threads, seed.
    pub fn environment(self, facts: &[(String, String)]) -> Report {
        let rows: Vec<_> = facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
        self.table("Environment", "", &[], &rows)
    }

    /// What to do with the model: `(what it does, command)`.
    pub fn usage(mut self, commands: &[(&str, String)]) -> Report {
        self.open("Use the model", "");
        for (what, command) in commands {
            Tag("p").class("what").text(&mut self.body, what);
            Tag("pre").text(&mut self.body, command);
        }
        self.close()
    }

    /// A section with a figure.
    pub fn figure(mut self, heading: &str, caption: &str, figure: &Figure) -> Report {
        self.open(heading, caption);
        let parts = figure.for_page(PAGE_WIDTH);
        // The matrix of 120 classes would be unreadable at the page's width: it keeps its own and scrolls.
        let wide = |parts: &[Figure], page: f32| parts.iter().any(|part| part.layout().width > 1.25 * page);
        // A drawing scaled down to a phone has letters of 5 pixels: it gets a second, narrower one (some 10 KB), and the
        // style sheet shows one of the two.
        let twice = figure.is_elastic() && parts.len() == 1;
        let class = match (wide(&parts, PAGE_WIDTH), twice) {
            (true, true) => "figure wide large",
            (true, false) => "figure wide",
            (false, true) => "figure large",
            (false, false) if parts.len() > 2 => "figure many",
            (false, false) => "figure",
        };
        html::figure(&mut self.body, class, &parts);
        if twice {
            let parts = figure.for_page(PHONE_WIDTH);
            let class = if wide(&parts, PHONE_WIDTH) { "figure wide small" } else { "figure small" };
            html::figure(&mut self.body, class, &parts);
        }
        self.close()
    }

    /// A section with a grid of pictures.
    pub fn pictures(mut self, heading: &str, caption: &str, cells: &[Captioned]) -> Report {
        self.open(heading, caption);
        html::pictures(&mut self.body, cells);
        self.close()
    }

    /// A section with a table; columns in which all cells are numbers are set flush right.
    pub fn table(self, heading: &str, caption: &str, header: &[String], rows: &[Vec<String>]) -> Report {
        self.ranking(heading, caption, header, rows, None)
    }

    /// [`Report::table`] with the row `best` marked as the best one.
    pub fn ranking(
        mut self,
        heading: &str,
        caption: &str,
        header: &[String],
        rows: &[Vec<String>],
        best: Option<usize>,
    ) -> Report {
        self.open(heading, caption);
        html::table(&mut self.body, header, rows, best);
        self.close()
    }

    /// A section with text in a fixed pitch, folded away until asked for.
    pub fn folded(mut self, heading: &str, caption: &str, text: &str) -> Report {
        self.open(heading, caption);
        self.body += "<details><summary>show</summary>";
        Tag("pre").text(&mut self.body, text);
        self.body += "</details>\n";
        self.close()
    }

    /// The page.
    pub fn to_html(&self) -> String {
        html::page(&self.title, &self.subtitle, &self.language, &self.headlines, &self.body)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) or [`ErrorKind::StorageFull`](crate::ErrorKind::StorageFull) naming `path`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let page = self.to_html();
        crate::fs::write_atomic(path.as_ref(), |w| w.write_all(page.as_bytes()))
    }

    fn open(&mut self, heading: &str, caption: &str) {
        self.body += "<section>\n";
        Tag("h2").text(&mut self.body, heading);
        if !caption.is_empty() {
            Tag("p").class("caption").text(&mut self.body, caption);
        }
    }

    fn close(mut self) -> Report {
        self.body += "</section>\n";
        self
    }
}
