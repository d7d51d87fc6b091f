//! The convolutions of ResNets, direction by direction; on a GPU with a row for each rung of the ladder.

use super::Cases;
use onecycle::ops::conv2d::Geometry;
use onecycle::ops::conv2d::ladder::{self, Direction, Finished, Rung, Way};
use onecycle::ops::conv2d::tile::{Tile, with_tile};
use onecycle::{DType, Tensor, ops};

/// A convolution of ResNets: channels in and out, side of the filter, stride, side of the picture.
#[derive(Clone, Copy)]
struct Layer(usize, usize, usize, usize, usize);

/// All that differ. `predict.py` derives the same from the networks, and `peers/torch_gpu.py` takes them from there.
const LAYERS: [Layer; 29] = [
    // ResNet-18 and 34
    Layer(3, 64, 7, 2, 224),
    Layer(64, 64, 3, 1, 56),
    Layer(64, 128, 3, 2, 56),
    Layer(128, 128, 3, 1, 28),
    Layer(64, 128, 1, 2, 56),
    Layer(128, 256, 3, 2, 28),
    Layer(256, 256, 3, 1, 14),
    Layer(128, 256, 1, 2, 28),
    Layer(256, 512, 3, 2, 14),
    Layer(512, 512, 3, 1, 7),
    Layer(256, 512, 1, 2, 14),
    // ResNet-50, besides the stem and the 3x3 with stride 1
    Layer(64, 64, 1, 1, 56),
    Layer(64, 256, 1, 1, 56),
    Layer(256, 64, 1, 1, 56),
    Layer(256, 128, 1, 1, 56),
    Layer(128, 128, 3, 2, 56),
    Layer(128, 512, 1, 1, 28),
    Layer(256, 512, 1, 2, 56),
    Layer(512, 128, 1, 1, 28),
    Layer(512, 256, 1, 1, 28),
    Layer(256, 256, 3, 2, 28),
    Layer(256, 1024, 1, 1, 14),
    Layer(512, 1024, 1, 2, 28),
    Layer(1024, 256, 1, 1, 14),
    Layer(1024, 512, 1, 1, 14),
    Layer(512, 512, 3, 2, 14),
    Layer(512, 2048, 1, 1, 7),
    Layer(1024, 2048, 1, 2, 14),
    Layer(2048, 512, 1, 1, 7),
];

impl Layer {
    fn name(self) -> String {
        let Layer(c, k, r, stride, h) = self;
        format!("conv2d/{c}>{k} {r}x{r}/{stride} {h}")
    }
}

/// The directions of a convolution.
const PARTS: [&str; 3] = ["forward", "input_gradient", "weight_gradient"];
/// What the fused rung takes along on the way.
const FUSED_PARTS: [&str; 3] = ["forward+statistics", "input_gradient+mask+sums", "input_gradient+shortcut+mask+sums"];

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::InputGradient, Direction::WeightGradient];

/// The names of a GPU's convolutions with `n` pictures.
#[allow(dead_code)] // for a test that compares them with the predictions'
pub(crate) fn convolution_names(n: usize) -> Vec<String> {
    let parts = |layer: &Layer| {
        let fused = if layer.0 < 8 { &FUSED_PARTS[..1] } else { &FUSED_PARTS };
        let name = layer.name();
        PARTS.iter().chain(fused).map(|part| format!("{name} N{n}/{part}")).collect::<Vec<_>>()
    };
    LAYERS.iter().flat_map(parts).collect()
}

impl Cases {
    pub(super) fn convolutions(&self) {
        for layer in LAYERS {
            let Layer(c, k, r, stride, h) = layer;
            // Eight channels are the fewest that every rung serves.
            let few = |channels: usize| if self.b.tiny { channels.min(8) } else { channels };
            let (n, h, c, k) = (self.n, self.size(h), few(c), few(k));
            let p = (h + 2 * (r / 2) - r) / stride + 1;
            let (x, w, y) = ([n, h, h, c], [k, r, r, c], [n, p, p, k]);
            let flop = 2.0 * (n * p * p * k * r * r * c) as f64;
            let (stride, padding) = ([stride; 2], [r / 2; 2]);
            if self.b.on_gpu() {
                self.rungs(layer, flop, x, w, y, (stride, padding));
                continue;
            }
            let inputs = [self.random(x), self.random(w)];
            let bytes =
                self.bytes(&[&inputs[0], &inputs[1]]) + (self.b.dtype.size() * y.iter().product::<usize>()) as f64;
            let wanted: &[(&str, &[usize])] = &[(PARTS[1], &[0]), (PARTS[2], &[1])];
            self.both_ways(&layer.name(), flop, bytes, &inputs, wanted, |t| {
                ops::conv2d(&t[0], &t[1], None, stride, padding).expect("the shapes fit")
            });
        }
    }

    /// Every version of the kernels, the three directions each.
    fn rungs(
        &self,
        layer: Layer,
        flop: f64,
        x: [usize; 4],
        w: [usize; 4],
        y: [usize; 4],
        (stride, padding): ([usize; 2], [usize; 2]),
    ) {
        let name = self.name(&layer.name());
        let parts = PARTS.map(|part| format!("{name}/{part}"));
        let fused_parts = FUSED_PARTS.map(|part| format!("{name}/{part}"));
        if !parts.iter().chain(&fused_parts).any(|part| self.b.wants(part)) {
            return;
        }
        let inputs = [self.random(x), self.random(w), self.random(y)];
        let moved = self.bytes(&[&inputs[0], &inputs[1], &inputs[2]]);
        // The gradient of a weight is f32.
        let wider = (inputs[1].numel() * (self.b.dtype.master().size() - self.b.dtype.size())) as f64;
        let g = Geometry::new(&inputs[0], &inputs[1], stride, padding).unwrap_or_else(|e| panic!("{e}"));
        let patient = self.n <= 16 || self.b.flag("--naive");
        let shown: Vec<Rung> = Rung::ALL
            .into_iter()
            .filter(|rung| rung.serves(&g, self.b.dtype) && (*rung != Rung::Naive || patient))
            .collect();
        for (part, direction) in parts.iter().zip(DIRECTIONS) {
            if let Some(plan) = ladder::plan(direction, &g, self.b.dtype).filter(|_| self.b.wants(part)) {
                println!("{part}: {plan}");
            }
        }
        let mut products =
            Products { cases: self, g, stride, padding, inputs, lowest: shown[0], right: Default::default() };
        let set = self.in_turns(&products.inputs, moved);
        // Bare products; the fused rung's are the tensor rung's.
        for rung in shown.iter().copied().filter(|rung| *rung < Rung::Fused) {
            for (i, part) in parts.iter().enumerate() {
                if !self.b.wants(part) || !products.is_right(part, rung, i) {
                    continue;
                }
                let bytes = moved + if i == 2 { wider } else { 0.0 };
                self.b.way(part, rung.name(), flop, bytes, || drop(products.make(rung, i, &set())));
                if rung == Rung::TensorCores && self.b.flag("--tiles") {
                    for tile in products.tiles(i) {
                        let way = format!("{} {tile}", rung.name());
                        with_tile(tile, || {
                            if products.is_right_by(part, &way, rung, i) {
                                self.b.way(part, &way, flop, bytes, || drop(products.make(rung, i, &set())));
                            }
                        });
                    }
                }
            }
        }
        if !Rung::Fused.serves(&g, self.b.dtype) {
            return;
        }
        // What the fused rung takes along. The sums are a few KB; the norm's input is read for them, and in front of a block the gradient
        // that has come along the shortcut is, too.
        let fused = Rung::Fused.name();
        if self.b.wants(&fused_parts[0]) && products.is_right(&fused_parts[0], Rung::Fused, 0) {
            self.b.way(&fused_parts[0], fused, flop, moved, || drop(products.make(Rung::Fused, 0, &set())));
        }
        if ladder::plan(Direction::InputGradient, &g, self.b.dtype).is_none() {
            return;
        }
        let numbers = [0; 4].map(|_| self.master([g.c]));
        let x_bytes = self.bytes(&[&products.inputs[0]]);
        for (part, joins) in [(&fused_parts[1], false), (&fused_parts[2], true)] {
            if !self.b.wants(part) || !products.is_finished_right(part, joins, &numbers) {
                continue;
            }
            let bytes = moved + x_bytes * if joins { 3.0 } else { 1.0 };
            self.b.way(part, fused, flop, bytes, || {
                let t = set();
                // The input stands for what it was made of, too: as large, and as far away.
                drop(products.finish(&t, &set()[0], joins, &numbers));
            });
        }
    }
}

/// The three products of a layer on a GPU, in the order of [`PARTS`].
struct Products<'a> {
    cases: &'a Cases,
    g: Geometry,
    stride: [usize; 2],
    padding: [usize; 2],
    /// `x`, `w` and `dy`.
    inputs: [Tensor; 3],
    /// The rung that the others are compared with.
    lowest: Rung,
    /// Its results, as far as they were asked for.
    right: [Option<Vec<f32>>; 3],
}

impl Products<'_> {
    fn make(&self, rung: Rung, i: usize, t: &[Tensor]) -> Tensor {
        let (stride, padding) = (self.stride, self.padding);
        let made = match i {
            0 => ladder::forward(rung, &t[0], &t[1], stride, padding),
            1 => ladder::input_gradient(rung, &t[0], &t[1], &t[2], stride, padding),
            _ => ladder::weight_gradient(rung, &t[0], &t[1], &t[2], stride, padding),
        };
        made.unwrap_or_else(|e| panic!("{e}"))
    }

    /// `dx` with all that the fused rung does to it, and the sums of tiles. `other` is what `x` has received already, if a shortcut `joins`.
    fn finish(&self, t: &[Tensor], other: &Tensor, joins: bool, numbers: &[Tensor; 4]) -> (Tensor, Tensor) {
        let (so_far, made) = if joins { (Some(other), Some(&t[0])) } else { (None, None) };
        let finished = Finished { so_far, seen: &t[0], numbers: numbers.each_ref(), made };
        ladder::input_gradient_finished(&t[0], &t[1], &t[2], finished, self.stride, self.padding)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// What the lowest rung makes.
    fn right(&mut self, i: usize) -> &[f32] {
        if self.right[i].is_none() {
            let made = self.make(self.lowest, i, &self.inputs);
            self.right[i] = Some(numbers_of(&made));
        }
        self.right[i].as_deref().unwrap_or_default()
    }

    /// Poisons what product `i` is written to: the result, and the parts of a sum.
    fn poison(&self, i: usize) {
        let b = &self.cases.b;
        let (shape, dtype) = match i {
            0 => (self.inputs[2].shape(), b.dtype),
            1 => (self.inputs[0].shape(), b.dtype),
            _ => (self.inputs[1].shape(), b.dtype.master()),
        };
        let splits = ladder::plan(DIRECTIONS[i], &self.g, b.dtype).map_or(1, |plan| plan.splits);
        let parts = if splits > 1 { b.poison([splits, shape.numel()], DType::F32) } else { Ok(()) };
        parts.and_then(|()| b.poison(shape.clone(), dtype)).unwrap_or_else(|e| panic!("{e}"));
    }

    /// The tiles that product `i` could be made of, and isn't; none where other kernels make it.
    fn tiles(&self, i: usize) -> Vec<Tile> {
        let dtype = self.cases.b.dtype;
        let plan = || ladder::plan(DIRECTIONS[i], &self.g, dtype).map(|plan| plan.way);
        let chosen = plan();
        // Which there are depends on the type.
        let others = Tile::ALL.into_iter().filter(|tile| {
            let way = with_tile(*tile, plan);
            way != chosen && (way == Some(Way::Tile(*tile)) || way == Some(Way::Slab(*tile)))
        });
        others.collect()
    }

    /// Whether product `i` of a rung is that of the lowest; what isn't is told.
    fn is_right(&mut self, name: &str, rung: Rung, i: usize) -> bool {
        self.is_right_by(name, rung.name(), rung, i)
    }

    /// As [`Products::is_right`], for one of several ways of a rung.
    fn is_right_by(&mut self, name: &str, way: &str, rung: Rung, i: usize) -> bool {
        if rung == self.lowest || !self.cases.b.checks() {
            return true;
        }
        self.right(i); // now, for it would take the poisoned memory
        self.poison(i);
        let made = self.make(rung, i, &self.inputs);
        self.cases.b.agrees(name, way, made.shape(), &numbers_of(&made), self.right(i))
    }

    /// As [`Products::is_right`] for [`Products::finish`]: the lowest rung's gradient, and the rest computed here.
    fn is_finished_right(&mut self, name: &str, joins: bool, numbers: &[Tensor; 4]) -> bool {
        if !self.cases.b.checks() {
            return true;
        }
        let (c, dtype) = (self.g.c, self.cases.b.dtype);
        let round = |x: f32| match dtype {
            DType::F16 => half::f16::from_f32(x).to_f32(),
            DType::BF16 => half::bf16::from_f32(x).to_f32(),
            _ => x,
        };
        let [mean, invstd, weight, bias] = numbers.each_ref().map(numbers_of);
        let x = numbers_of(&self.inputs[0]);
        let mut dz = self.right(1).to_vec(); // [N, H, W, C]
        let mut sums = vec![0.0; 2 * c]; // of dz (x - mean), of dz
        for (i, (d, &x)) in dz.iter_mut().zip(&x).enumerate() {
            let ch = i % c;
            let passed = if joins {
                *d = round(*d + x);
                x > 0.0
            } else {
                (x - mean[ch]).mul_add(weight[ch] * invstd[ch], bias[ch]) > 0.0
            };
            if !passed {
                *d = 0.0;
            }
            sums[ch] += f64::from(*d) * f64::from(x - mean[ch]);
            sums[c + ch] += f64::from(*d);
        }
        self.poison(1);
        let (made, of_tiles) = self.finish(&self.inputs, &self.inputs[0], joins, numbers);
        let mut added = vec![0.0; 2 * c];
        for (i, part) in numbers_of(&of_tiles).into_iter().enumerate() {
            added[i % (2 * c)] += f64::from(part);
        }
        let narrow = |sums: Vec<f64>| sums.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let (b, fused) = (&self.cases.b, Rung::Fused.name());
        b.agrees(name, fused, made.shape(), &numbers_of(&made), &dz)
            && b.agrees(&format!("{name}, sums"), fused, &[2, c], &narrow(added), &narrow(sums))
    }
}

/// On the host.
fn numbers_of(t: &Tensor) -> Vec<f32> {
    t.cast(DType::F32).and_then(|t| t.to_vec::<f32>()).unwrap_or_else(|e| panic!("{e}"))
}
