//! `onecycle chapter5`: the article's steps, one after the other, on the data and the weights that there are; the article's figures stand
//! beside what came out here, and one report holds it all.
//!
//! `examples/chapter5.rs` has the same steps as a program to read. What differs from the article is said before anything is computed:
//! other pictures, another size, weights that are fresh. Nothing is left out for it, so that the steps can be followed on any
//! machine; only the ResNet-50 at the end waits for a GPU or for `--resnet50`.

mod article;

use super::quickstart::PICTURES_SEED;
use crate::cli::flags::CacheRule;
use crate::cli::settings::{Chapter5Settings, DataSettings, ModelSettings};
use crate::cli::{Context, data, interpretation, run, run_dir, transfer::watched};
use crate::data::{DataLoaders, URLs, UntarData};
use crate::learner::{FineTune, FitOptions, Interpretation, Learner, format_time};
use crate::optim::slice;
use crate::plot::picture_grid;
use crate::plot::report::Report;
use crate::vision::{ShowBatch, render_quickstart};
use crate::{Device, ErrorKind, Result};
use article::Epoch;
use std::path::PathBuf;

/// Runs the command.
///
/// # Errors
/// When the device can't be used, the data that was named can't be trained on, or the directory can't be written.
pub fn run(settings: &Chapter5Settings, context: &Context) -> Result<()> {
    run::use_threads(settings.common.threads);
    let half = settings.bf16 || settings.fp16;
    let device = run::training_device(settings.common.device, half, context)?;
    run_dir::prepare(&settings.out, settings.overwrite)?;
    let (found, dir) = pictures(settings, context)?;
    let mut chapter = Chapter::begin(settings, found, dir, device, context)?;
    chapter.data_block()?;
    chapter.baseline()?;
    let learn = chapter.by_hand()?;
    chapter.interpretation(&learn)?;
    learn.export(chapter.model_file())?;
    drop(learn);
    // The last run is the longest: whoever stops it has what there is.
    chapter.write()?;
    chapter.resnet50()?;
    let report = chapter.write()?;
    context.console.result(&format!("\nreport    {}\nmodel     {}", report.display(), chapter.model_file().display()))
}

/// What is trained on.
enum Found {
    /// The article's data.
    Pets,
    /// What the user has named.
    Named,
    /// Nothing was to be had: small ones are drawn.
    Drawn,
}

fn pictures(settings: &Chapter5Settings, context: &Context) -> Result<(Found, PathBuf)> {
    if let Some(dir) = &settings.dir {
        return Ok((Found::Named, dir.clone()));
    }
    let console = &context.console;
    console.note("the article's pictures are 812 MB, fetched once; --data DIR takes others");
    match watched(context, |watch| UntarData::new(URLs::PETS).run(watch)) {
        Ok(path) => Ok((Found::Pets, path.join("images"))),
        Err(e) if e.kind() == ErrorKind::Network => {
            console.note(&format!("they can't be had: {e}"));
            Ok((Found::Drawn, render_quickstart(&data::cache_dir(), PICTURES_SEED)?))
        }
        Err(e) => Err(e),
    }
}

/// The article on its way.
struct Chapter<'a> {
    settings: &'a Chapter5Settings,
    data: DataSettings,
    model: ModelSettings,
    found: Found,
    dir: PathBuf,
    dls: DataLoaders,
    device: Device,
    context: &'a Context,
    report: Report,
}

impl<'a> Chapter<'a> {
    fn begin(
        settings: &'a Chapter5Settings,
        found: Found,
        dir: PathBuf,
        device: Device,
        context: &'a Context,
    ) -> Result<Chapter<'a>> {
        let drawn = matches!(found, Found::Drawn);
        let data = settings.data_of(drawn, (!matches!(found, Found::Named)).then_some(data::ARTICLES_LABEL_RE))?;
        let mut model = settings.model_of(drawn)?;
        let seed = settings.common.seeds[0];
        let dls = data::load(&data, &dir, seed, context)?;
        if settings.weights.is_none() && model.pretrained.is_some() {
            // Unasked for, so their lack is no failure.
            match run::learner(&model, &dls, device, context) {
                Err(e) if matches!(e.kind(), ErrorKind::Network | ErrorKind::Io | ErrorKind::Argument) => {
                    context.console.note(&format!("beginning with fresh weights: {e}"));
                    (model.pretrained, model.weights) = (None, None);
                }
                other => drop(other?),
            }
        }
        let subtitle = format!(
            "{} training and {} validation pictures in {} classes, {} px, {}, {} weights",
            dls.train.n_items(),
            dls.valid.n_items(),
            dls.c(),
            data.size,
            model.arch,
            if model.pretrained.is_some() { "pretrained" } else { "fresh" },
        );
        let report = Report::new("Chapter 5: multiclass classification", subtitle.clone());
        let chapter = Chapter { settings, data, model, found, dir, dls, device, context, report };
        chapter.say(&format!("{subtitle}, seed {seed}, on {device}"))?;
        for difference in chapter.differences() {
            chapter.say(&format!("  not as in the article: {difference}"))?;
        }
        Ok(chapter)
    }

    /// What makes other figures than the article's.
    fn differences(&self) -> Vec<String> {
        let mut all = Vec::new();
        match self.found {
            Found::Pets => {}
            Found::Named => all.push(format!("the pictures are those of {}", self.dir.display())),
            Found::Drawn => all.push("the pictures are 1,200 small drawings, not 7,390 photographs of pets".into()),
        }
        if self.data.size != 224 {
            all.push(format!("the network sees {} pixels, not 224", self.data.size));
        }
        if self.model.arch != "resnet34" {
            all.push(format!("the network is {}, not resnet34", self.model.arch));
        }
        if self.model.pretrained.is_none() {
            all.push("the weights are fresh: nothing is frozen, and a few epochs are not enough".into());
        }
        if let Some(epochs) = self.settings.epochs {
            all.push(format!("the last fit has {epochs} epochs, not 12"));
        }
        all
    }

    fn say(&self, line: &str) -> Result<()> {
        self.context.console.result(line)
    }

    /// A line of the article's Python, before what it does.
    fn python(&self, line: &str) -> Result<()> {
        self.say(&format!("\n>>> {line}"))
    }

    /// Adds to the report.
    fn add(&mut self, with: impl FnOnce(Report) -> Report) {
        self.report = with(self.take_report());
    }

    /// The report, for somebody who gives it back with more.
    fn take_report(&mut self) -> Report {
        std::mem::replace(&mut self.report, Report::new("", ""))
    }

    fn save(&self, figure: &crate::plot::Figure, name: &str) -> Result<()> {
        let file = self.settings.out.join(name);
        figure.save(&file)?;
        self.say(&format!("{}", file.display()))
    }

    fn learner(&self, model: &ModelSettings) -> Result<Learner> {
        let learn = run::learner(model, &self.dls, self.device, self.context)?;
        Ok(learn.cache_on_gpu(self.data.cache == CacheRule::Gpu))
    }

    fn data_block(&mut self) -> Result<()> {
        self.python("dblock.summary(path)")?;
        let seed = self.settings.common.seeds[0];
        let summary = match self.data.csv {
            Some(_) => "(of a table: see show_batch)".to_string(),
            None => data::data_block(&self.data, &self.dir, seed)?.summary(&self.dir)?,
        };
        self.say(summary.trim_end())?;
        self.add(|report| {
            report.folded("The data block", "What becomes of a picture on its way to the network.", &summary)
        });
        self.python("dls.show_batch()")?;
        let batch = self.dls.batch_cells(&ShowBatch::default())?;
        self.save(&picture_grid(&batch, None, None)?, "show_batch.png")?;
        self.python("dls.show_batch(unique=True)")?;
        let unique = self.dls.batch_cells(&ShowBatch { unique: true, ..ShowBatch::default() })?;
        self.save(&picture_grid(&unique, None, None)?, "show_batch_unique.png")?;
        let named = |cells| interpretation::named_below(&self.dir, cells);
        let (batch, unique) = (named(batch), named(unique));
        self.add(|report| {
            let caption = "The same picture, augmented anew each time: what presizing leaves of it.";
            report.batch(&batch).pictures("One picture in its augmentations", caption, &unique)
        });
        Ok(())
    }

    /// The search, and a quick baseline.
    fn baseline(&mut self) -> Result<()> {
        let mut learn = self.learner(&self.model.clone())?;
        self.lr_find(&mut learn, "lr_find.png", Some(article::LR_FIND))?;
        let recipe = FineTune { base_lr: 1e-2, ..FineTune::default() };
        self.fit(&mut learn, "learn.fine_tune(2, base_lr=1e-2)", &article::FINE_TUNE, |learn| {
            learn.fine_tune_with(2, &recipe, FitOptions::default())
        })
    }

    /// The same with more control: the head, then everything with discriminative rates.
    fn by_hand(&mut self) -> Result<Learner> {
        self.python(&format!("learn = cnn_learner(dls, {}, metrics=error_rate)", self.model.arch))?;
        let mut learn = self.learner(&self.model.clone())?;
        self.lr_find(&mut learn, "lr_find_again.png", None)?;
        self.fit(&mut learn, "learn.fit_one_cycle(2, lr_max=1e-2)", &article::HEAD, |learn| {
            learn.fit_one_cycle(2, 1e-2)
        })?;
        self.python("learn.summary()")?;
        // Pretrained, it is frozen already; the article's table shows it so.
        learn.freeze()?;
        let frozen = learn.summary()?;
        self.say(&frozen)?;
        self.python("learn.unfreeze()")?;
        learn.unfreeze()?;
        self.python("learn.summary()")?;
        let summary = learn.summary()?;
        self.say(&summary)?;
        self.add(|report| report.folded("The network", "All layers, unfrozen.", &summary));
        self.lr_find(&mut learn, "lr_find_unfrozen.png", None)?;
        self.python("len(learn.opt.param_groups)")?;
        self.say(&learn.opt().param_groups().len().to_string())?;
        let epochs = self.settings.epochs.unwrap_or(12);
        let line = format!("learn.fit_one_cycle({epochs}, lr_max=slice(1e-6, 1e-4))");
        self.fit(&mut learn, &line, &article::UNFROZEN, |learn| learn.fit_one_cycle(epochs, slice(1e-6, 1e-4)))?;
        self.python("learn.recorder.plot_loss()")?;
        let figure = learn.recorder().plot_loss();
        self.save(&figure, "plot_loss.png")?;
        self.add(|report| report.learning_curve(&figure));
        Ok(learn)
    }

    fn interpretation(&mut self, learn: &Learner) -> Result<()> {
        let interp = Interpretation::from_learner(learn)?;
        let report = self.take_report();
        self.report = interpretation::sections(&interp, report, &self.dir, &self.settings.out, 9)?;
        Ok(())
    }

    fn resnet50(&mut self) -> Result<()> {
        let Some(model) = self.settings.resnet50_of(self.device, &self.model) else {
            self.python("learn = cnn_learner(dls, resnet50, metrics=error_rate).to_fp16()")?;
            return self.say(
                "(left out on a processor, where it takes three times as long as all before; --resnet50 runs it)",
            );
        };
        let half = if model.bf16 {
            ".to_bf16()"
        } else if model.fp16 {
            ".to_fp16()"
        } else {
            ""
        };
        self.python(&format!("learn = cnn_learner(dls, {}, metrics=error_rate){half}", model.arch))?;
        let mut learn = self.learner(&model)?;
        self.fit(&mut learn, "learn.fine_tune(6, freeze_epochs=1)", &article::RESNET50, |learn| {
            learn.fine_tune_with(6, &FineTune { freeze_epochs: 1, ..FineTune::default() }, FitOptions::default())
        })?;
        learn.export(self.settings.out.join("resnet50.safetensors"))
    }

    fn lr_find(&mut self, learn: &mut Learner, name: &str, recorded: Option<(f64, f64)>) -> Result<()> {
        self.python("lr_min, lr_steep = learn.lr_find()")?;
        let found = learn.lr_find()?;
        self.say(&format!("({:?}, {:?})", found.lr_min, found.lr_steep))?;
        if let Some((min, steep)) = recorded {
            self.say(&format!("({min:?}, {steep:?})  in the article"))?;
        }
        let figure = found.plot();
        self.save(&figure, name)?;
        let caption = format!(
            "Minimum / 10: {:.1e}, steepest: {:.1e}, valley: {:.1e}.",
            found.lr_min, found.lr_steep, found.valley
        );
        self.add(|report| report.figure("Which learning rate", &caption, &figure));
        Ok(())
    }

    /// Trains, and puts the article's table beside what came out.
    fn fit(
        &mut self,
        learn: &mut Learner,
        line: &str,
        recorded: &[Epoch],
        fit: impl FnOnce(&mut Learner) -> Result<()>,
    ) -> Result<()> {
        self.python(line)?;
        let before = learn.recorder().history().len();
        fit(learn)?;
        let rows = &learn.recorder().history()[before..];
        let ours: Vec<[Option<f64>; 4]> =
            rows.iter().map(|r| [r.train_loss, r.get("valid_loss"), r.get("error_rate"), Some(r.seconds)]).collect();
        if let (Some([_, _, Some(error), _]), Some([_, _, theirs, _])) = (ours.last(), recorded.last()) {
            self.say(&format!("error_rate {error:.6} at the end, {theirs:.6} in the article"))?;
        }
        let header =
            ["epoch", "train_loss", "article", "valid_loss", "article", "error_rate", "article", "time", "article"];
        let cell = |column: usize, value: Option<f64>| match value {
            None => "–".to_string(),
            Some(v) if column == 3 => format_time(v),
            Some(v) => format!("{v:.6}"),
        };
        let row = |i: usize| {
            let pair = |column: usize| {
                let theirs = recorded.get(i).map(|epoch| epoch[column]);
                [cell(column, ours.get(i).and_then(|epoch| epoch[column])), cell(column, theirs)]
            };
            std::iter::once(i.to_string()).chain((0..4).flat_map(pair)).collect()
        };
        let table: Vec<Vec<String>> = (0..ours.len().max(recorded.len())).map(row).collect();
        let caption = "Each number beside the article's, which was measured on the pets, pretrained, on a GPU of 2021.";
        self.add(|report| report.table(line, caption, &header.map(String::from), &table));
        Ok(())
    }

    fn model_file(&self) -> PathBuf {
        self.settings.out.join("model.safetensors")
    }

    /// Writes the report, as far as it goes.
    fn write(&self) -> Result<PathBuf> {
        let differences: Vec<Vec<String>> = self.differences().into_iter().map(|text| vec![text]).collect();
        let mut report = self.report.clone();
        if !differences.is_empty() {
            report = report.table("Not as in the article", "What makes the figures others.", &[], &differences);
        }
        report = report.usage(&[
            ("repeat this", self.settings.command()),
            ("label pictures", format!("onecycle predict {} cat.jpg dog.jpg", self.model_file().display())),
        ]);
        let file = self.settings.out.join("report.html");
        report.save(&file)?;
        Ok(file)
    }
}
