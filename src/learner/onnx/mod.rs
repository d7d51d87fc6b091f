//! Models for other runtimes: ONNX. Feature `onnx`.
//!
//! ```no_run
//! # use onecycle::prelude::*;
//! # fn demo(learn: Learner) -> Result<()> {
//! learn.export_onnx("pets.onnx")?;
//! # Ok(()) }
//! ```
//!
//! ```python
//! import onnxruntime, numpy
//! net = onnxruntime.InferenceSession("pets.onnx")
//! x = numpy.asarray(picture, numpy.float32).transpose(2, 0, 1)[None] / 255      # [N, 3, H, W], RGB, 0 to 1
//! logits, = net.run(None, {"x": x})                                             # [N, classes]
//! ```
//!
//! **What the file has.** The network as it is in evaluation, in operators of opset 17, with the normalisation of the batch transforms
//! in front and no softmax behind. All axes but the channels are free: any number of pictures of any size. Names of weights are
//! those of the model (`0.0.weight`). The vocabulary is in the metadata under `vocab`, as JSON; how pictures are resized and cropped is not
//! in the file, since ONNX has no words for it: a model that keeps its pipeline is [`Learner::export`]'s.
//!
//! **What was decided.** The graph is written from the architecture's description, stage by stage, and the head module by module; a
//! training-only layer (dropout) leaves no trace. Norms stay norms: runtimes fold them into convolutions better than we would.
//! Numbers are f32; answers differ from this crate's by the order of sums, some 1e-6 of the largest.
//!
//! **What it costs.** Twice the weights' memory while writing. The format can't pass 2 GB, eight times a ResNet-152.

mod proto;

use super::{Learner, Predictor};
use crate::fs::write_atomic;
use crate::nn::{Arch, BATCH_NORM_EPS, Module, Sequential};
use crate::ops::augment::Statistics;
use crate::{DType, Error, ErrorKind, Result, Tensor};
use prost::Message;
use proto::{Attribute, Constant, FLOAT, Graph, Model, Node, OperatorSet, Property, ValueInfo};
use std::collections::HashMap;
use std::path::Path;

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

impl Learner {
    /// Writes the network as an ONNX model, atomically; see the top of `onnx/mod.rs` for what is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] naming `path`; a file that was there before stays.
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        let statistics = self.dls.batch_tfms().statistics();
        write(path.as_ref(), &self.model, &self.arch, statistics, self.dls.vocab())
    }
}

impl Predictor {
    /// As [`Learner::export_onnx`], from a model that was exported before.
    ///
    /// # Errors
    /// As [`Learner::export_onnx`].
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        let (model, statistics) = self.network();
        write(path.as_ref(), model, self.arch(), statistics, self.vocab())
    }
}

fn write(path: &Path, model: &Sequential, arch: &Arch, statistics: Option<Statistics>, vocab: &[String]) -> Result<()> {
    let bytes = Builder::new(model).model(model, arch, statistics, vocab)?.encode_to_vec();
    write_atomic(path, |out| out.write_all(&bytes))
}

/// A graph in the making: each step takes the name of a value and returns that of its own.
struct Builder {
    state: HashMap<String, Tensor>,
    graph: Graph,
    /// Numbers that the last linear layer says.
    outputs: usize,
}

impl Builder {
    fn new(model: &Sequential) -> Builder {
        let state = model.state().into_iter().map(|(name, entry)| (name, entry.value())).collect();
        Builder { state, graph: Graph::default(), outputs: 0 }
    }

    fn model(
        mut self,
        model: &Sequential,
        arch: &Arch,
        statistics: Option<Statistics>,
        vocab: &[String],
    ) -> Result<Model> {
        let mut x = "x".to_string(); // [N, 3, H, W]
        if let Some(Statistics { mean, std }) = statistics {
            x = self.with_constant("Sub", x, "mean", &mean);
            x = self.with_constant("Div", x, "std", &std);
        }
        let x = self.body(arch, x)?;
        let logits = self.head(model, x)?;
        for output in self.graph.node.iter_mut().flat_map(|node| &mut node.output).filter(|output| **output == logits) {
            *output = "logits".into();
        }
        self.graph.name = arch.name.clone();
        self.graph.input = vec![ValueInfo::floats("x", &[Err("N"), Ok(3), Err("H"), Err("W")])];
        self.graph.output = vec![ValueInfo::floats("logits", &[Err("N"), Ok(self.outputs)])];
        let property = |key: &str, value: String| Property { key: key.into(), value };
        Ok(Model {
            ir_version: IR_VERSION,
            producer_name: "onecycle".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
            metadata_props: vec![
                property("vocab", serde_json::json!(vocab).to_string()),
                property("arch", arch.name.clone()),
            ],
        })
    }

    /// As [`Arch::body`] builds it, under its names.
    fn body(&mut self, arch: &Arch, x: String) -> Result<String> {
        let x = self.conv("0.0", &x, 2)?;
        let x = self.norm("0.1", &x)?;
        let x = self.relu("0.2", &x);
        let window = [("kernel_shape", 3), ("strides", 2)].map(|(name, n)| Attribute::ints(name, &[n; 2]));
        let pads = Attribute::ints("pads", &[1; 4]);
        let mut x = self.node("MaxPool", "0.3", &[&x], [&window[..], &[pads]].concat());
        for (stage, &blocks) in arch.blocks.iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.block(&format!("0.{}.{block}", stage + 4), &x, stride, arch.bottleneck)?;
            }
        }
        Ok(x)
    }

    /// A basic block has two convolutions, the first with the stride; a bottleneck three, the second with the stride.
    fn block(&mut self, name: &str, x: &str, stride: usize, bottleneck: bool) -> Result<String> {
        let (convolutions, strided) = if bottleneck { (3, 2) } else { (2, 1) };
        let mut y = x.to_string();
        for i in 1..=convolutions {
            y = self.conv(&format!("{name}.conv{i}"), &y, if i == strided { stride } else { 1 })?;
            y = self.norm(&format!("{name}.bn{i}"), &y)?;
            if i < convolutions {
                y = self.relu(&format!("{name}.relu{i}"), &y);
            }
        }
        let mut shortcut = x.to_string();
        if self.state.contains_key(&format!("{name}.downsample.0.weight")) {
            shortcut = self.conv(&format!("{name}.downsample.0"), x, stride)?;
            shortcut = self.norm(&format!("{name}.downsample.1"), &shortcut)?;
        }
        let sum = self.node("Add", &format!("{name}.add"), &[&y, &shortcut], vec![]);
        Ok(self.relu(&format!("{name}.relu"), &sum))
    }

    /// The modules of the head, one by one.
    fn head(&mut self, model: &Sequential, mut x: String) -> Result<String> {
        for (i, module) in model.get(1).map(|head| head.children()).unwrap_or_default() {
            let name = format!("1.{i}");
            x = match module.kind() {
                "AdaptiveConcatPool2d" => {
                    let max = self.node("GlobalMaxPool", &format!("{name}.mp"), &[&x], vec![]);
                    let mean = self.node("GlobalAveragePool", &format!("{name}.ap"), &[&x], vec![]);
                    self.node("Concat", &name, &[&max, &mean], vec![Attribute::int("axis", 1)])
                }
                "Flatten" => self.node("Flatten", &name, &[&x], vec![Attribute::int("axis", 1)]),
                "BatchNorm1d" => self.norm(&name, &x)?,
                "ReLU" => self.relu(&name, &x),
                "Dropout" => x,
                "Linear" => {
                    let weight = self.weight(&format!("{name}.weight"))?;
                    self.outputs = self.state[&weight].shape()[0];
                    let mut inputs = vec![x, weight];
                    let bias = format!("{name}.bias");
                    if self.state.contains_key(&bias) {
                        inputs.push(self.weight(&bias)?);
                    }
                    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                    self.node("Gemm", &name, &inputs, vec![Attribute::int("transB", 1)])
                }
                other => {
                    let message = format!("a {other} in the head has no operator here");
                    return Err(Error::new(ErrorKind::Argument, message).on(name));
                }
            };
        }
        Ok(x)
    }

    fn conv(&mut self, name: &str, x: &str, stride: usize) -> Result<String> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let window = self.state[&weight].shape().nchw()[2]; // [K, C, R, S]
        let settings = vec![
            Attribute::ints("kernel_shape", &[window; 2]),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[window / 2; 4]),
        ];
        Ok(self.node("Conv", name, &[x, &weight], settings))
    }

    fn norm(&mut self, name: &str, x: &str) -> Result<String> {
        let mut inputs = vec![x.to_string()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.weight(&format!("{name}.{part}"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let epsilon = Attribute::float("epsilon", BATCH_NORM_EPS as f32);
        Ok(self.node("BatchNormalization", name, &inputs, vec![epsilon]))
    }

    fn relu(&mut self, name: &str, x: &str) -> String {
        self.node("Relu", name, &[x], vec![])
    }

    /// An operation whose value has its name.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.into()],
            name: name.into(),
            op_type: op.into(),
            attribute,
        });
        name.into()
    }

    /// An operation of a value with one constant number a channel.
    fn with_constant(&mut self, op: &str, x: String, constant: &str, numbers: &[f32; 3]) -> String {
        self.constant(constant, &[1, 3, 1, 1], numbers);
        self.node(op, &format!("normalize.{constant}"), &[&x, constant], vec![])
    }

    /// A tensor of the model's state becomes a constant of its name.
    fn weight(&mut self, name: &str) -> Result<String> {
        let missing = || Error::new(ErrorKind::Argument, "is not in the model").on(name);
        let tensor = self.state.get(name).ok_or_else(missing)?.cast(DType::F32)?;
        self.constant(name, &tensor.shape().nchw(), &tensor.to_nchw_vec::<f32>()?);
        Ok(name.into())
    }

    fn constant(&mut self, name: &str, dims: &[usize], numbers: &[f32]) {
        self.graph.initializer.push(Constant {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: FLOAT,
            name: name.into(),
            raw_data: numbers.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::vision_learner::build;
    use crate::nn::{HeadOptions, resnet18, resnet50};
    use std::collections::HashSet;

    /// What a checker would complain of: names that are used before they exist or twice, constants of the wrong size or unused.
    #[test]
    fn the_graph_is_whole() {
        for (arch, convolutions) in [(resnet18(), 20), (resnet50(), 53)] {
            let model = build(&arch, &HeadOptions::default(), 3);
            let statistics = Some(crate::ops::augment::IMAGENET_STATS);
            let vocab = ["a \"quoted\" name".to_string(), "ß".into(), "c".into()];
            let bytes = Builder::new(&model).model(&model, &arch, statistics, &vocab).unwrap().encode_to_vec();
            let model_proto = Model::decode(&bytes[..]).unwrap();
            let graph = model_proto.graph.unwrap();
            let mut known: HashSet<&str> = HashSet::from(["x"]);
            for c in &graph.initializer {
                assert!(known.insert(&c.name), "{} twice", c.name);
                assert_eq!(c.dims.iter().product::<i64>() * 4, c.raw_data.len() as i64, "{}", c.name);
            }
            let mut used = HashSet::new();
            for node in &graph.node {
                for input in &node.input {
                    assert!(known.contains(input.as_str()), "{} uses {input}", node.name);
                    used.insert(input.as_str());
                }
                assert!(node.output.iter().all(|output| known.insert(output)), "{} twice", node.name);
            }
            let unused: Vec<_> = known.difference(&used).copied().collect();
            assert_eq!(unused, ["logits"]);
            assert_eq!(graph.node.iter().filter(|node| node.op_type == "Conv").count(), convolutions);
            // Every weight and statistic is there; counters are for training.
            let state = model.state().into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).count();
            assert_eq!(graph.initializer.len(), state + 2);
            assert_eq!(graph.output, [ValueInfo::floats("logits", &[Err("N"), Ok(3)])]);
            let words: Vec<String> = serde_json::from_str(&model_proto.metadata_props[0].value).unwrap();
            assert_eq!(words, vocab);
        }
    }

    #[test]
    fn a_module_without_an_operator_is_named() {
        let arch = resnet18();
        let model = Sequential::new().push(arch.body()).push(Sequential::new().push(arch.body()));
        let e = Builder::new(&model).model(&model, &arch, None, &[]).unwrap_err();
        assert!(e.to_string().starts_with("1.0: a Sequential in the head"), "{e}");
    }
}
