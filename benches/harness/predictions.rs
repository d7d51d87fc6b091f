//! What `benches/predict.py` wrote down before the first run: microseconds of each convolution and each step, by the way it is done.
//!
//! They are for one card, whose name stands in the heading, and for half precision. `--predictions FILE` reads another file than the one
//! that was built in.

use super::row::Work;
use onecycle::DType;
use serde::Deserialize;
use std::collections::HashMap;

const BUILT_IN: &str = include_str!("../predictions.json");

/// The file.
#[derive(Deserialize, Default)]
pub struct Predictions {
    /// The card they are for.
    #[serde(default)]
    pub card: String,
    #[serde(default)]
    dtypes: Vec<String>,
    #[serde(default)]
    rows: HashMap<String, Row>,
}

/// `floor_us`, microseconds by way, and for steps the sums that a floor is made of.
#[derive(Deserialize)]
struct Row {
    #[serde(flatten)]
    numbers: HashMap<String, f64>,
    /// The same of each operation of a step.
    #[serde(default)]
    operations: HashMap<String, HashMap<String, f64>>,
}

/// The parts that a floor of several kernels is the sum of: FLOP, and bytes.
fn parts(numbers: &HashMap<String, f64>) -> Option<Work> {
    Some(Work { flop: *numbers.get("math_flop")?, bytes: *numbers.get("memory_bytes")?, items: 0 })
}

impl Predictions {
    /// Those for `dtype`; none where the file is for others.
    pub fn read(path: Option<&str>, dtype: DType) -> Result<Predictions, String> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?,
            None => BUILT_IN.to_owned(),
        };
        let read: Predictions = serde_json::from_str(&text).map_err(|e| format!("predictions: {e}"))?;
        Ok(if read.dtypes.contains(&dtype.to_string()) { read } else { Predictions::default() })
    }

    /// Microseconds of the case `name` done in this way.
    pub fn us(&self, name: &str, way: &str) -> Option<f64> {
        self.rows.get(name)?.numbers.get(way).copied()
    }

    /// What a whole step moves, and the parts that its floor is the sum of.
    pub fn step(&self, name: &str) -> Option<(f64, Work)> {
        let numbers = &self.rows.get(name)?.numbers;
        Some((*numbers.get("bytes")?, parts(numbers)?))
    }

    /// The parts of the floor of one operation of a step, all its kernels together, and their microseconds done in this way.
    pub fn operation(&self, step: &str, operation: &str, way: &str) -> Option<(Work, Option<f64>)> {
        let numbers = self.rows.get(step)?.operations.get(operation)?;
        Some((parts(numbers)?, numbers.get(way).copied()))
    }
}
