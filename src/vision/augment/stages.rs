//! The steps' names, as `DataBlock.summary` prints them.

use super::AugTransforms;
use crate::data::{IntToFloat, Stage};
use crate::ops::augment::{Interpolation, Padding};

/// The steps in running order. The whole affine group goes by the name of its first member, the lighting group too: that is how fastai
/// folds them.
pub(super) fn of(t: &AugTransforms, input: (usize, usize)) -> Vec<Stage> {
    let out = t.size.unwrap_or(input);
    let affine_out = if t.crops() { input } else { out };
    let stage = |description: String, (height, width)| Stage { description, height, width };
    let size_of = |size: Option<(usize, usize)>| size.map_or("None".into(), |(h, w)| format!("({h}, {w})"));
    let affine_size = size_of(t.size.filter(|_| !t.crops()));
    let python = |on: bool| if on { "True" } else { "False" };
    let mode = match t.interpolation {
        Interpolation::Bilinear => "bilinear",
        Interpolation::Nearest => "nearest",
    };
    let padding = match t.pad_mode {
        Padding::Reflection => "reflection",
        Padding::Border => "border",
        Padding::Zeros => "zeros",
    };
    let (batch, align) = (python(t.batch), python(t.align_corners));
    let common = format!("'mode': '{mode}', 'pad_mode': '{padding}'");
    let simple = |name: &str, p: f64| {
        format!(
            "{name} -- {{'size': {affine_size}, {common}, 'mode_mask': 'nearest', 'align_corners': {align}, 'p': {p:?}}}"
        )
    };
    let mut stages = vec![stage(IntToFloat::DESCRIPTION.into(), input)];
    if t.do_flip {
        stages.push(stage(simple(if t.flip_vert { "Dihedral" } else { "Flip" }, 0.5), affine_out));
    } else if t.max_warp != 0.0 {
        let text = format!(
            "Warp -- {{'magnitude': {:?}, 'p': 1.0, 'draw_x': None, 'draw_y': None, 'size': {affine_size}, {common}, \
             'batch': {batch}, 'align_corners': {align}, 'mode_mask': 'nearest'}}",
            t.max_warp
        );
        stages.push(stage(text, affine_out));
    } else if t.max_rotate != 0.0 {
        stages.push(stage(simple("Rotate", 1.0), affine_out));
    } else if t.zooms() {
        stages.push(stage(simple("Zoom", 1.0), affine_out));
    }
    if t.crops() {
        let text = format!(
            "RandomResizedCropGPU -- {{'size': {}, 'min_scale': {:?}, 'ratio': (1, 1), 'mode': '{mode}', \
             'valid_scale': 1.0, 'max_scale': 1.0, 'p': 1.0}}",
            size_of(Some(out)),
            t.min_scale
        );
        stages.push(stage(text, out));
    }
    let light = |name: &str, amount: f64| {
        format!("{name} -- {{'max_lighting': {amount:?}, 'p': 1.0, 'draw': None, 'batch': {batch}}}")
    };
    if t.max_lighting != 0.0 {
        stages.push(stage(light("Brightness", t.max_lighting), out));
    } else if t.max_saturation != 0.0 {
        stages.push(stage(light("Saturation", t.max_saturation), out));
    }
    if t.max_hue != 0.0 {
        stages.push(stage(light("Hue", t.max_hue).replace("max_lighting", "max_hue"), out));
    }
    if let Some((mean, std)) = t.normalize {
        let tensor = |v: [f32; 3]| {
            let rows = v.map(|x| format!("[[{x:.4}]]")).join(",\n\n         ");
            format!("tensor([[{rows}]])")
        };
        let text = format!("Normalize -- {{'mean': {}, 'std': {}, 'axes': (0, 2, 3)}}", tensor(mean), tensor(std));
        stages.push(stage(text, out));
    }
    if let Some(e) = &t.erasing {
        let text = format!(
            "RandomErasing -- {{'sl': {:?}, 'sh': {:?}, 'min_aspect': {:?}, 'max_count': {}, 'p': {:?}}}",
            e.sl, e.sh, e.min_aspect, e.max_count, e.p
        );
        stages.push(stage(text, out));
    }
    stages
}
