//! Metrics: numbers that people judge a model by.
//!
//! Most are means over items: they are taken batch by batch and weighted by the batches' sizes, so that a short last batch counts as
//! what it is ([`Metric::new`]). Others, such as F1, are no means of anything: all predictions of a set are gathered first
//! ([`Metric::accumulated`]). Names are fastai's, as they stand above the table's columns.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # use onecycle::learner::{Average, f1_score, top_k_accuracy};
//! # fn demo(dls: DataLoaders) -> onecycle::Result<()> {
//! let learn = vision_learner(&dls, resnet34)?.metrics(error_rate).metrics(top_k_accuracy(5)).metrics(f1_score(Average::Macro));
//! # Ok(()) }
//! ```
//!
//! Predictions are raw: what the network says, before any softmax or sigmoid.

use super::loss::sigmoid;
use crate::{DType, Error, ErrorKind, Result, Tensor, ops};

/// From predictions `[N, C]` and targets to a number.
type Compute = dyn Fn(&Tensor, &Tensor) -> Result<f64> + Send;

/// A metric with its name, as the table shows it.
pub struct Metric {
    name: String,
    of: Box<Compute>,
    accumulated: bool,
}

impl Metric {
    /// A metric called `name`: the mean over a batch of something about predictions `[N, C]` and targets (class numbers i64 `[N]`,
    /// else f32 `[N, C]` or `[N]`).
    pub fn new(name: impl Into<String>, of: impl Fn(&Tensor, &Tensor) -> Result<f64> + Send + 'static) -> Metric {
        Metric { name: name.into(), of: Box::new(of), accumulated: false }
    }

    /// A metric of a whole set at once, which is not a mean over its batches. fastai: `AccumMetric`.
    pub fn accumulated(
        name: impl Into<String>,
        of: impl Fn(&Tensor, &Tensor) -> Result<f64> + Send + 'static,
    ) -> Metric {
        Metric { accumulated: true, ..Metric::new(name, of) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is of a whole set.
    pub fn is_accumulated(&self) -> bool {
        self.accumulated
    }

    /// Its value for a batch, or for a set.
    ///
    /// # Errors
    /// When predictions and targets don't fit.
    pub fn of(&self, predictions: &Tensor, targets: &Tensor) -> Result<f64> {
        (self.of)(predictions, targets)
    }
}

/// A function is a metric called as the function is.
impl<F: Fn(&Tensor, &Tensor) -> Result<f64> + Send + 'static> From<F> for Metric {
    fn from(f: F) -> Metric {
        let path = std::any::type_name::<F>();
        let name = path.rsplit("::").find(|part| !part.starts_with('{')).unwrap_or("metric");
        Metric::new(name, f)
    }
}

/// Metrics of a pass: means that grow batch by batch, and what is gathered for the others.
#[derive(Debug, Default)]
pub(super) struct Running {
    sums: Vec<f64>,
    weight: f64,
    /// Predictions and targets so far, for metrics of the whole set.
    gathered: Option<(Tensor, Tensor)>,
}

impl Running {
    pub fn add(&mut self, metrics: &[Metric], predictions: &Tensor, targets: &Tensor) -> Result<()> {
        let n = targets.shape().first().copied().unwrap_or(1) as f64;
        self.sums.resize(metrics.len(), 0.0);
        self.weight += n;
        for (sum, metric) in self.sums.iter_mut().zip(metrics).filter(|(_, m)| !m.accumulated) {
            *sum += n * metric.of(predictions, targets)?;
        }
        if metrics.iter().any(|m| m.accumulated) {
            let host =
                |t: &Tensor| t.to(crate::Device::Cpu)?.cast(if t.dtype().is_half() { DType::F32 } else { t.dtype() });
            let (p, t) = (host(predictions)?, host(targets)?);
            self.gathered = Some(match self.gathered.take() {
                Some((all_p, all_t)) => (joined(&all_p, &p)?, joined(&all_t, &t)?),
                None => (p, t),
            });
        }
        Ok(())
    }

    /// The metrics of all that was added; nothing without any.
    pub fn values(&self, metrics: &[Metric]) -> Result<Vec<f64>> {
        let value = |(metric, sum): (&Metric, &f64)| match &self.gathered {
            Some((p, t)) if metric.accumulated => metric.of(p, t),
            _ => Ok(sum / self.weight),
        };
        metrics.iter().zip(&self.sums).map(value).collect()
    }
}

/// The rows of `a`, then those of `b`, on the processor.
fn joined(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut shape = a.shape().to_vec();
    shape[0] += b.shape()[0];
    let values = [a.to_f64_vec()?, b.to_f64_vec()?].concat();
    Tensor::from_slice(&values, shape, crate::Device::Cpu)?.cast(a.dtype())
}

/// Share of the predictions `[N, C]` whose largest element is the target's; ties go to the lower class.
///
/// # Errors
/// When the targets are not one class for each row.
pub fn accuracy(predictions: &Tensor, targets: &Tensor) -> Result<f64> {
    classes("accuracy", targets, "accuracy_multi is for several labels an item, mse for numbers")?;
    let right = ops::count_correct(predictions, targets)?.item()?;
    Ok(right / targets.numel().max(1) as f64)
}

/// 1 - [`accuracy`].
///
/// # Errors
/// As [`accuracy`].
pub fn error_rate(predictions: &Tensor, targets: &Tensor) -> Result<f64> {
    Ok(1.0 - accuracy(predictions, targets)?)
}

/// Share of the predictions whose `k` largest elements hold the target's: fastai's `top_k_accuracy` (its `k` is 5).
pub fn top_k_accuracy(k: usize) -> Metric {
    Metric::new("top_k_accuracy", move |predictions, targets| {
        classes("top_k_accuracy", targets, "it is for one class an item")?;
        let ([_, c], targets) = (predictions.dims2("top_k_accuracy")?, targets.to_vec::<i64>()?);
        if k == 0 || k > c {
            return Err(Error::new(ErrorKind::Argument, format!("the {k} best of {c} classes"))
                .on("top_k_accuracy")
                .remedy(format!("use a number from 1 to {c}")));
        }
        let hit = |(row, &t): (&[f64], &i64)| {
            // Before the target come larger ones, and equal ones of lower classes.
            let Some(t) = usize::try_from(t).ok().filter(|&t| t < c) else { return false };
            let before = (0..c).filter(|&i| row[i] > row[t] || row[i] == row[t] && i < t).count();
            before < k
        };
        let rows = predictions.to_f64_vec()?;
        let hits = rows.chunks_exact(c).zip(&targets).filter(|&pair| hit(pair)).count();
        Ok(hits as f64 / targets.len().max(1) as f64)
    })
}

/// Share of labels that are said rightly, each there or not: fastai's `accuracy_multi` with its threshold of 0.5.
///
/// # Errors
/// When the targets are not a row of labels for each row of predictions.
pub fn accuracy_multi(predictions: &Tensor, targets: &Tensor) -> Result<f64> {
    right_labels(predictions, targets, 0.5)
}

/// [`accuracy_multi`] in which a label is said when its probability is above `thresh`.
pub fn accuracy_multi_at(thresh: f64) -> Metric {
    Metric::new("accuracy_multi", move |predictions, targets| right_labels(predictions, targets, thresh))
}

fn right_labels(predictions: &Tensor, targets: &Tensor, thresh: f64) -> Result<f64> {
    let (said, so) = labels("accuracy_multi", predictions, targets, thresh)?;
    Ok(said.iter().zip(&so).filter(|(a, b)| a == b).count() as f64 / said.len().max(1) as f64)
}

/// How F1, precision and recall of several classes become one number; scikit-learn's `average`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// That of one class, the positive one: of two classes usually 1.
    Binary {
        /// Its number.
        pos_label: usize,
    },
    /// The mean over classes, each counting the same.
    Macro,
    /// From the sums over classes.
    Micro,
    /// The mean over classes, each weighted by its items.
    Weighted,
    /// The mean over items, each with its own labels; for several labels an item only.
    Samples,
}

/// Which of the three.
#[derive(Clone, Copy)]
pub(super) enum Score {
    F1,
    Precision,
    Recall,
}

/// F1, the harmonic mean of precision and recall, over classes: fastai's `F1Score`.
pub fn f1_score(average: Average) -> Metric {
    score_of_classes("f1_score", Score::F1, average)
}

/// The share of what was said to be a class that is: fastai's `Precision`.
pub fn precision(average: Average) -> Metric {
    score_of_classes("precision_score", Score::Precision, average)
}

/// The share of what is a class that was said to be: fastai's `Recall`.
pub fn recall(average: Average) -> Metric {
    score_of_classes("recall_score", Score::Recall, average)
}

/// [`f1_score`] for several labels an item, which are said when their probability is above `thresh`: fastai's `F1ScoreMulti`.
pub fn f1_score_multi(thresh: f64, average: Average) -> Metric {
    score_of_labels("f1_score", Score::F1, thresh, average)
}

/// [`precision`] for several labels an item: fastai's `PrecisionMulti`.
pub fn precision_multi(thresh: f64, average: Average) -> Metric {
    score_of_labels("precision_score", Score::Precision, thresh, average)
}

/// [`recall`] for several labels an item: fastai's `RecallMulti`.
pub fn recall_multi(thresh: f64, average: Average) -> Metric {
    score_of_labels("recall_score", Score::Recall, thresh, average)
}

/// The mean squared error of numbers.
///
/// # Errors
/// When there are more or fewer targets than predictions.
pub fn mse(predictions: &Tensor, targets: &Tensor) -> Result<f64> {
    mean_of("mse", predictions, targets, |d| d * d)
}

/// The mean absolute error of numbers.
///
/// # Errors
/// As [`mse`].
pub fn mae(predictions: &Tensor, targets: &Tensor) -> Result<f64> {
    mean_of("mae", predictions, targets, f64::abs)
}

/// The root of the mean squared error over a set: fastai's `rmse`.
pub fn rmse() -> Metric {
    Metric::accumulated("rmse", |predictions, targets| Ok(mse(predictions, targets)?.sqrt()))
}

/// The largest element's place in every row of `[N, C]`; the first of equals.
///
/// # Errors
/// When `t` is no matrix.
pub fn argmax(t: &Tensor) -> Result<Vec<usize>> {
    let [_, c] = t.dims2("argmax")?;
    Ok(t.to_f64_vec()?.chunks_exact(c.max(1)).map(first_largest).collect())
}

/// The place of the largest number of a row, the first of equals.
pub(super) fn first_largest(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// # Errors
/// The targets are no class numbers.
fn classes(metric: &str, targets: &Tensor, remedy: &str) -> Result<()> {
    match targets.dtype() {
        DType::I64 => Ok(()),
        _ => Err(Error::new(ErrorKind::Argument, "the targets are not one class for each item")
            .on(metric)
            .remedy(remedy)),
    }
}

/// For every item and label, whether it was said and whether it is so: [N * C] each.
fn labels(metric: &str, predictions: &Tensor, targets: &Tensor, thresh: f64) -> Result<(Vec<bool>, Vec<bool>)> {
    if targets.dtype() == DType::I64 || targets.numel() != predictions.numel() {
        let message =
            format!("targets {} {} for predictions {}", targets.dtype(), targets.shape(), predictions.shape());
        let error = Error::new(ErrorKind::Argument, message).on(metric);
        return Err(error.remedy("it is for several labels an item (MultiCategoryBlock); accuracy is for one class"));
    }
    let said = predictions.to_f64_vec()?.into_iter().map(|x| sigmoid(x) > thresh).collect();
    Ok((said, targets.to_f64_vec()?.into_iter().map(|y| y > 0.5).collect()))
}

fn mean_of(metric: &str, predictions: &Tensor, targets: &Tensor, of: impl Fn(f64) -> f64) -> Result<f64> {
    if targets.dtype() == DType::I64 || targets.numel() != predictions.numel() {
        let message =
            format!("targets {} {} for predictions {}", targets.dtype(), targets.shape(), predictions.shape());
        return Err(Error::new(ErrorKind::Argument, message).on(metric).remedy("it is for numbers (RegressionBlock)"));
    }
    let (p, t) = (predictions.to_f64_vec()?, targets.to_f64_vec()?);
    Ok(p.iter().zip(&t).map(|(p, t)| of(p - t)).sum::<f64>() / p.len().max(1) as f64)
}

/// Of a class, or of a label: right, said, there.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub right: usize,
    pub said: usize,
    pub there: usize,
}

impl Counts {
    fn count(&mut self, said: bool, there: bool) {
        self.right += usize::from(said && there);
        self.said += usize::from(said);
        self.there += usize::from(there);
    }

    /// 0 of nothing is 0, as in scikit-learn.
    pub fn score(self, score: Score) -> f64 {
        let share = |of: usize| if of == 0 { 0.0 } else { self.right as f64 / of as f64 };
        match score {
            Score::Precision => share(self.said),
            Score::Recall => share(self.there),
            Score::F1 if self.said + self.there == 0 => 0.0,
            Score::F1 => 2.0 * self.right as f64 / (self.said + self.there) as f64,
        }
    }
}

/// One number of several counts; [`Average::Binary`] and [`Average::Samples`] are the caller's.
pub(super) fn averaged(counts: &[Counts], score: Score, average: Average) -> f64 {
    let scores = counts.iter().map(|c| c.score(score));
    match average {
        Average::Micro => {
            let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum();
            Counts { right: sum(|c| c.right), said: sum(|c| c.said), there: sum(|c| c.there) }.score(score)
        }
        Average::Weighted => {
            let there: usize = counts.iter().map(|c| c.there).sum();
            let weighted: Vec<f64> = scores.zip(counts).map(|(s, c)| s * c.there as f64).collect();
            numpy_sum(&weighted) / there.max(1) as f64
        }
        _ => numpy_sum(&scores.collect::<Vec<f64>>()) / counts.len().max(1) as f64,
    }
}

/// The sum in NumPy's order, whose last bit decides how a mean is rounded: eight running sums, joined in pairs; more than 128 numbers
/// are halved first.
fn numpy_sum(all: &[f64]) -> f64 {
    if all.len() < 8 {
        return all.iter().sum();
    }
    if all.len() > 128 {
        let half = all.len() / 2;
        let (a, b) = all.split_at(half - half % 8);
        return numpy_sum(a) + numpy_sum(b);
    }
    let (eights, rest) = all.as_chunks::<8>();
    let mut r = eights[0];
    for eight in &eights[1..] {
        r.iter_mut().zip(eight).for_each(|(sum, v)| *sum += v);
    }
    let pairs = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    rest.iter().fold(pairs, |sum, v| sum + v)
}

fn refused(name: &str, average: Average, remedy: &str) -> Error {
    Error::new(ErrorKind::Argument, format!("an average {average:?} of such targets")).on(name).remedy(remedy)
}

fn score_of_classes(name: &'static str, score: Score, average: Average) -> Metric {
    Metric::accumulated(name, move |predictions, targets| {
        classes(name, targets, "its form for several labels an item ends in _multi")?;
        let ([_, c], said) = (predictions.dims2(name)?, argmax(predictions)?);
        let targets: Vec<usize> = targets.to_vec::<i64>()?.into_iter().map(|t| t as usize).collect();
        let of = |class: usize| {
            let mut counts = Counts::default();
            said.iter().zip(&targets).for_each(|(&s, &t)| counts.count(s == class, t == class));
            counts
        };
        let counts: Vec<Counts> = (0..c).map(of).collect();
        match average {
            Average::Binary { pos_label } if pos_label < c => Ok(counts[pos_label].score(score)),
            Average::Binary { .. } => Err(refused(name, average, "the positive class must be one of the vocabulary")),
            Average::Samples => Err(refused(name, average, "use Macro, Micro or Weighted for one class an item")),
            // As scikit-learn, which knows only classes that occur.
            _ => {
                let known: Vec<Counts> = counts.into_iter().filter(|c| c.said + c.there > 0).collect();
                Ok(averaged(&known, score, average))
            }
        }
    })
}

fn score_of_labels(name: &'static str, score: Score, thresh: f64, average: Average) -> Metric {
    Metric::accumulated(name, move |predictions, targets| {
        let (said, there) = labels(name, predictions, targets, thresh)?;
        let [rows, c] = predictions.dims2(name)?;
        let over = |places: &mut dyn Iterator<Item = usize>| {
            let mut counts = Counts::default();
            places.for_each(|i| counts.count(said[i], there[i]));
            counts
        };
        match average {
            Average::Samples => {
                let row = |r: usize| over(&mut (r * c..(r + 1) * c)).score(score);
                Ok((0..rows).map(row).sum::<f64>() / rows.max(1) as f64)
            }
            Average::Binary { .. } => {
                Err(refused(name, average, "use Macro, Micro, Weighted or Samples for several labels"))
            }
            _ => {
                let counts: Vec<Counts> = (0..c).map(|label| over(&mut (label..rows * c).step_by(c))).collect();
                Ok(averaged(&counts, score, average))
            }
        }
    })
}
