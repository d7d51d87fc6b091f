//! The article's chapter 5, line for line: each Python line stands as a comment above its Rust.
//!
//!     cargo run --release --example chapter5                     pictures drawn on the spot, small, about three minutes
//!     cargo run --release --example chapter5 -- --pets           the article's data and sizes; downloads 812 MB, once
//!     cargo run --release --example chapter5 -- DIR              pictures of your own
//!
//! Further flags: `--weights FILE` (pretrained ones, as in the article: a `.pth` or safetensors file, a URL, or `auto`, which fetches
//! them; without the flag they are fresh), `--regex RE` (whose first group is the class in a file's name), `--size N` (what the network
//! sees), `--epochs N` (of the last fit), `--resnet50` (the article's last run, in half precision). Figures go to `runs/chapter5`.
//!
//! The drawn pictures are for a ResNet-18 from fresh weights. `onecycle chapter5` does the same with the article's figures beside its own, and
//! writes a report.

// from fastai.vision.all import *
use onecycle::learner::{FineTune, FitOptions};
use onecycle::prelude::*;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let args = Args::parse()?;
    let figures = Path::new("runs/chapter5");
    std::fs::create_dir_all(figures).map_err(|e| Error::io("create the folder", figures, e))?;

    // path = untar_data(URLs.PETS)
    //     Nothing is downloaded unasked: without an argument, pictures are drawn.
    let (path, demo) = match &args.dir {
        Some(dir) => (dir.clone(), false),
        None if args.pets => (untar_data(URLs::PETS)?.join("images"), false),
        None => (onecycle::vision::render_quickstart(&std::env::temp_dir().join("onecycle-examples"), 42)?, true),
    };
    let size = args.size.unwrap_or(if demo { 64 } else { 224 });
    let presize = (size * 460).div_ceil(224); // 460 for 224, as in the article

    // dblock = DataBlock(blocks=(ImageBlock, CategoryBlock),
    //                    get_items=get_image_files,
    //                    get_y=using_attr(RegexLabeller(r'(.+)_\d+.jpg$'), 'name'),
    //                    splitter=RandomSplitter(seed=42),
    //                    item_tfms=Resize(460),
    //                    batch_tfms=aug_transforms(size=224, min_scale=.75))
    let dblock = DataBlock::new((ImageBlock, CategoryBlock))
        .get_items(get_image_files)
        .get_y(using_attr(RegexLabeller::new(&args.regex)?, "name"))
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(presize))
        .batch_tfms(aug_transforms().size(size).min_scale(0.75))
        .bs(if demo { 32 } else { 64 });

    // dblock.summary(path/'images')
    println!("{}", dblock.summary(&path)?);

    // dls = dblock.dataloaders(path/'images')
    let dls = dblock.dataloaders(&path)?;

    // dls.show_batch()
    dls.show_batch()?.save(figures.join("show_batch.png"))?;

    // dls.show_batch(unique=True)
    dls.show_batch_unique()?.save(figures.join("show_batch_unique.png"))?;

    // learn = cnn_learner(dls, resnet34, metrics=error_rate)
    //     Nothing is downloaded unasked: without --weights the weights are fresh.
    let cnn_learner = || {
        let learn = vision_learner(&dls, if demo { resnet18 } else { resnet34 })?.metrics(error_rate);
        match &args.weights {
            Some(weights) => learn.pretrained(weights.clone()),
            None => Ok(learn),
        }
    };
    let mut learn = cnn_learner()?;

    // lr_min, lr_steep = learn.lr_find()
    // lr_min, lr_steep
    let found = learn.lr_find()?;
    println!("{:?}", (found.lr_min, found.lr_steep));
    found.plot().save(figures.join("lr_find.png"))?;

    // learn.fine_tune(2, base_lr=1e-2)
    //     It freezes the body, fits the head, unfreezes and fits everything. It is made for pretrained bodies: a fresh one is random while it is frozen.
    let recipe = FineTune { base_lr: 1e-2, ..FineTune::default() };
    learn.fine_tune_with(2, &recipe, FitOptions::default())?;

    // learn = cnn_learner(dls, resnet34, metrics=error_rate)
    // lr_min, lr_steep = learn.lr_find()
    //     The article begins anew.
    learn = cnn_learner()?;
    learn.lr_find()?.plot().save(figures.join("lr_find_again.png"))?;

    // learn.fit_one_cycle(2, lr_max=1e-2)
    //     The article's body is pretrained and frozen here. A fresh one would stay random if it were, so all layers train.
    learn.fit_one_cycle(2, 1e-2)?;

    // learn.summary()
    //     Frozen, as the article's first table: convolutions of the body rest, norms and the head train.
    learn.freeze()?;
    println!("{}\n", learn.summary()?);

    // learn.unfreeze()
    learn.unfreeze()?;

    // learn.summary()
    println!("{}\n", learn.summary()?);

    // len(learn.opt.param_groups)
    println!("{} parameter groups\n", learn.opt().param_groups().len());

    // lr_min, lr_steep = learn.lr_find()
    let found = learn.lr_find()?;
    found.plot().save(figures.join("lr_find_unfrozen.png"))?;

    // learn.fit_one_cycle(12, lr_max=slice(1e-6, 1e-4))
    let epochs = args.epochs.unwrap_or(if demo { 3 } else { 12 });
    learn.fit_one_cycle(epochs, slice(1e-6, 1e-4))?;

    // learn.recorder.plot_loss()
    learn.recorder().plot_loss().save(figures.join("plot_loss.png"))?;

    // learn = cnn_learner(dls, resnet50, metrics=error_rate).to_fp16()
    // learn.fine_tune(6, freeze_epochs=1)
    //     With --resnet50, and pretrained: the article's weights are `Weights::V1`.
    if args.resnet50 {
        let mut learn = vision_learner(&dls, resnet50)?.metrics(error_rate).pretrained(Weights::V1)?.to_fp16()?;
        learn.fine_tune_with(6, &FineTune { freeze_epochs: 1, ..FineTune::default() }, FitOptions::default())?;
    }

    println!("figures: {}", figures.display());
    Ok(())
}

/// The command line.
struct Args {
    dir: Option<PathBuf>,
    pets: bool,
    resnet50: bool,
    regex: String,
    weights: Option<Weights>,
    size: Option<usize>,
    epochs: Option<usize>,
}

impl Args {
    fn parse() -> Result<Args> {
        let regex = r"(.+)_\d+.jpg$".into();
        let mut args = Args { dir: None, pets: false, resnet50: false, regex, weights: None, size: None, epochs: None };
        let mut given = std::env::args().skip(1);
        while let Some(arg) = given.next() {
            let wrong = |why: &str| Error::new(ErrorKind::Argument, why).on(&arg);
            let mut value = || given.next().ok_or_else(|| wrong("needs a value"));
            let number = |text: String| match text.parse() {
                Ok(n) if n > 0 => Ok(n),
                _ => Err(wrong("needs a whole number above 0")),
            };
            match arg.as_str() {
                "--pets" => args.pets = true,
                "--resnet50" => args.resnet50 = true,
                "--weights" => args.weights = Some(Weights::from(value()?.as_str())),
                "--regex" => args.regex = value()?,
                "--size" => args.size = Some(number(value()?)?),
                "--epochs" => args.epochs = Some(number(value()?)?),
                dir if !dir.starts_with('-') && args.dir.is_none() => args.dir = Some(dir.into()),
                _ => {
                    return Err(wrong("unknown argument")
                        .remedy("DIR, --pets, --weights FILE, --resnet50, --regex RE, --size N, --epochs N"));
                }
            }
        }
        Ok(args)
    }
}
