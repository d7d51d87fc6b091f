//! Metrics: numbers that people judge a model by. They are means over items, so batches of different sizes are weighted.

use crate::{Result, Tensor, ops};

/// From predictions `[N, C]` and targets `[N]` to a batch's mean.
type Compute = dyn Fn(&Tensor, &Tensor) -> Result<f64> + Send;

/// A metric with its name, as the table shows it.
pub struct Metric {
    name: String,
    of: Box<Compute>,
}

impl Metric {
    /// A metric called `name`: the mean over a batch of something about predictions `[N, C]` and targets `[N]`.
    pub fn new(name: impl Into<String>, of: impl Fn(&Tensor, &Tensor) -> Result<f64> + Send + 'static) -> Metric {
        Metric { name: name.into(), of: Box::new(of) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value for a batch.
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

/// Share of the predictions `[N, C]` whose largest element is the target's; ties go to the lower class.
///
/// # Errors
/// When the numbers of rows differ.
pub fn accuracy(predictions: &Tensor, targets: &Tensor) -> Result<f64> {
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

/// The largest element's place in every row of `[N, C]`; the first of equals.
///
/// # Errors
/// When `t` is no matrix.
pub fn argmax(t: &Tensor) -> Result<Vec<usize>> {
    let [_, c] = t.dims2("argmax")?;
    let first_largest = |row: &[f64]| (1..c).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    Ok(t.to_f64_vec()?.chunks_exact(c.max(1)).map(first_largest).collect())
}
