//! Splitters, getters, target blocks and the smaller item transforms against values recorded from fastai 2.8.12, scikit-learn
//! and Pillow 13. Nothing that is expected stands in this file but names; the cases are in the recordings.

mod common;

use common::{fixture, json, safetensors, text};
use onecycle::data::*;
use onecycle::vision::resize::{PadMode, item_transform_from};
use onecycle::vision::*;
use onecycle::{ErrorKind, Result, rng};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn recorded() -> Option<Json> {
    json("data/blocks.json")
}

fn list(v: &Json) -> &Vec<Json> {
    v.as_array().unwrap()
}

fn whole(v: &Json) -> usize {
    v.as_u64().unwrap() as usize
}

fn numbers(v: &Json) -> Vec<usize> {
    list(v).iter().map(whole).collect()
}

fn strings(v: &Json) -> Vec<String> {
    match v {
        Json::String(s) => vec![s.clone()],
        other => list(other).iter().map(|s| s.as_str().unwrap().to_owned()).collect(),
    }
}

fn floats(v: &Json) -> Vec<f32> {
    list(v).iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The value that Python had.
fn value(v: &Json) -> Value {
    match v {
        Json::Bool(b) => (*b).into(),
        Json::Number(n) => n.as_i64().map_or_else(|| n.as_f64().unwrap().into(), Value::from),
        Json::String(s) => s.as_str().into(),
        Json::Array(all) => Value::List(all.iter().map(value).collect()),
        other => panic!("{other} is no value"),
    }
}

#[test]
fn parity_splitters() {
    let Some(recorded) = recorded() else { return };
    let folders = ["train", "valid", "test", "extra"];
    let letters = ["a", "b", "c"];
    let items: Vec<Item> = (0..23).map(|i| format!("d/{}/{}/{i}.jpg", folders[i % 4], letters[i % 3]).into()).collect();
    let dir = tempfile::tempdir().unwrap();
    for case in list(&recorded["splitters"]) {
        let args = &case["args"];
        let splitter: Box<dyn Splitter> = match case["kind"].as_str().unwrap() {
            "EndSplitter" => Box::new(EndSplitter::new(args[0].as_f64().unwrap(), args[1].as_bool().unwrap())),
            "IndexSplitter" => Box::new(IndexSplitter::new(numbers(args))),
            "GrandparentSplitter" => Box::new(GrandparentSplitter::new(strings(&args[0]), strings(&args[1]))),
            "MaskSplitter" => {
                Box::new(MaskSplitter::new(list(args).iter().map(|b| b.as_bool().unwrap()).collect::<Vec<_>>()))
            }
            "FileSplitter" => {
                let path = dir.path().join("valid.txt");
                std::fs::write(&path, args.as_str().unwrap()).unwrap();
                Box::new(FileSplitter::read(path).unwrap())
            }
            "FuncSplitter" => {
                let name = |p: &Path| p.file_name().unwrap().to_str().unwrap().ends_with("1.jpg");
                Box::new(FuncSplitter::new(name))
            }
            "RandomSubsetSplitter" => {
                let (train, valid) = (args[0].as_f64().unwrap(), args[1].as_f64().unwrap());
                Box::new(RandomSubsetSplitter::new(train, valid, args[2].as_u64()))
            }
            other => panic!("unknown splitter {other}"),
        };
        let splits = splitter.split(&items).unwrap();
        assert_eq!(splits.train, numbers(&case["train"]), "{case}");
        assert_eq!(splits.valid, numbers(&case["valid"]), "{case}");
    }
}

#[test]
fn parity_splits_by_a_column() {
    let Some(recorded) = recorded() else { return };
    let items = Table::parse("t.csv", recorded["csv"].as_str().unwrap()).unwrap().items();
    for case in list(&recorded["col_splitters"]) {
        let args = &case["args"];
        let mut splitter = match &args["col"] {
            Json::Null => ColSplitter::default(),
            Json::String(name) => ColSplitter::new(name.as_str()),
            at => ColSplitter::new(whole(at)),
        };
        match &args["on"] {
            Json::Null => {}
            Json::Array(all) => splitter = all.iter().fold(splitter, |s, v| s.on(value(v))),
            one => splitter = splitter.on(value(one)),
        }
        let splits = splitter.split(&items).unwrap();
        assert_eq!((splits.train, splits.valid), (numbers(&case["train"]), numbers(&case["valid"])), "{case}");
    }
    let e = ColSplitter::new("part").split(&items).unwrap_err();
    assert!(e.to_string().contains("'x' is neither true nor false") && e.to_string().contains(".on("), "{e}");
    assert!(ColSplitter::default().split(&["a.jpg".into()]).unwrap_err().to_string().contains("Table"));
}

/// Sizes and counts per class are scikit-learn's; which items they are is not.
#[test]
fn parity_train_test_split() {
    let Some(recorded) = recorded() else { return };
    for case in list(&recorded["train_test"]) {
        let (n, args) = (whole(&case["n"]), &case["args"]);
        let share = |v: &Json| v.as_u64().map_or_else(|| Share::Of(v.as_f64().unwrap()), |k| Share::Count(k as usize));
        let mut splitter = match (&args["test_size"], &args["train_size"]) {
            (Json::Null, Json::Null) => TrainTestSplitter::default(),
            (Json::Null, train) => TrainTestSplitter::of_train_size(share(train)),
            (test, Json::Null) => TrainTestSplitter::new(share(test)),
            (test, train) => TrainTestSplitter::new(share(test)).train_size(share(train)),
        };
        splitter = splitter.shuffle(args["shuffle"] != false);
        let counts = case["counts"].as_array().map(|_| numbers(&case["counts"]));
        let class = |i: usize| {
            let mut ends = counts.iter().flatten().scan(0, |end, c| {
                *end += c;
                Some(*end)
            });
            ends.position(|end| i < end).unwrap_or(0)
        };
        let items: Vec<Item> = (0..n).map(|i| format!("{:03}/{i}.jpg", class(i)).into()).collect();
        for seed in [1, 2, 3] {
            let mut splitter = splitter.clone().seed(seed);
            if counts.is_some() {
                splitter = splitter.stratify(parent_label);
            }
            let splits = splitter.split(&items);
            if case["error"].is_string() {
                splits.unwrap_err();
                continue;
            }
            let splits = splits.unwrap();
            let mut both = [splits.train.clone(), splits.valid.clone()].concat();
            both.sort_unstable();
            both.dedup();
            assert_eq!(both.len(), splits.train.len() + splits.valid.len(), "no item is in both sets");
            match &counts {
                None => {
                    assert_eq!((splits.train.len(), splits.valid.len()), (whole(&case["train"]), whole(&case["valid"])))
                }
                Some(counts) => {
                    let of = |set: &[usize]| {
                        let mut found = vec![0; counts.len()];
                        set.iter().for_each(|&i| found[class(i)] += 1);
                        found
                    };
                    // Two classes with equal remainders share an item by chance, there and here.
                    let close = |a: Vec<usize>, b: Vec<usize>| {
                        a.iter().sum::<usize>() == b.iter().sum::<usize>()
                            && a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1)
                    };
                    assert!(close(of(&splits.train), numbers(&case["train"])), "{case}");
                    assert!(close(of(&splits.valid), numbers(&case["valid"])), "{case}");
                }
            }
            if case["ordered"].is_array() {
                assert_eq!(splits.valid, numbers(&case["ordered"]));
            } else {
                assert_ne!(splits.train, (0..splits.train.len()).collect::<Vec<_>>(), "shuffled");
            }
        }
    }
}

#[test]
fn parity_column_readers() {
    let Some(recorded) = recorded() else { return };
    let items = Table::parse("t.csv", recorded["csv"].as_str().unwrap()).unwrap().items();
    for case in list(&recorded["col_readers"]) {
        let args = &case["args"];
        let col = |v: &Json| v.as_str().map_or_else(|| Col::At(v.as_u64().unwrap() as usize), Col::from);
        let mut reader = match &args["cols"] {
            Json::Array(all) => ColReader::new(all.iter().map(col).collect::<Vec<_>>()),
            one => ColReader::new(col(one)),
        };
        match &args["pref"] {
            Json::String(text) => reader = reader.pref(text),
            Json::Array(path) => reader = reader.folder(path[1].as_str().unwrap()),
            _ => {}
        }
        if let Some(suff) = args["suff"].as_str() {
            reader = reader.suff(suff);
        }
        if let Some(delim) = args["label_delim"].as_str() {
            reader = reader.label_delim(delim);
        }
        let slashed = |v: Value| match v {
            Value::Text(t) => Value::Text(t.replace(std::path::MAIN_SEPARATOR, "/")),
            other => other,
        };
        let made: Vec<Value> = items.iter().map(|i| slashed(reader.get(i).unwrap())).collect();
        assert_eq!(made, list(&case["values"]).iter().map(value).collect::<Vec<_>>(), "{args}");
    }
    let third = &items[2];
    assert_eq!(ItemGetter(1).get(third).unwrap(), AttrGetter::new("label").get(third).unwrap());
    assert_eq!(AttrGetter::new("none").default(7).get(third).unwrap(), Value::Int(7));
    let e = AttrGetter::new("none").get(third).unwrap_err();
    assert!(e.item().unwrap().contains("row 3") && e.to_string().contains("fname"), "{e}");
    assert_eq!(AttrGetter::new("stem").get(&"a/b_1.jpg".into()).unwrap(), Value::from("b_1"));
}

#[test]
fn parity_names_in_the_summary() {
    let Some(recorded) = recorded() else { return };
    let names = |class: &str| strings(&recorded["names"][class]);
    let one = |t: &dyn ItemTransform| t.describe();
    let resize = Resize::new((30, 40)).method(ResizeMethod::Pad).pad_mode(PadMode::Border);
    assert_eq!([one(&resize)], names("Resize")[..]);
    let crop_pads = [one(&CropPad::new((30, 40))), one(&CropPad::new(7).pad_mode(PadMode::Reflection))];
    assert_eq!(crop_pads, names("CropPad")[..]);
    assert_eq!([one(&RandomCrop::new((30, 40)))], names("RandomCrop")[..]);
    assert_eq!([one(&RatioResize::new(50))], names("RatioResize")[..]);
    assert_eq!([one(&FlipItem::default()), one(&FlipItem::new(0.25))], names("FlipItem")[..]);
    assert_eq!([one(&DihedralItem::default()), one(&DihedralItem::new(0.5))], names("DihedralItem")[..]);
    let all: [(&str, &dyn ItemTransform); 7] = [
        ("Resize", &resize),
        ("CropPad", &CropPad::new(1)),
        ("RandomCrop", &RandomCrop::new(1)),
        ("RatioResize", &RatioResize::new(1)),
        ("FlipItem", &FlipItem::default()),
        ("DihedralItem", &DihedralItem::default()),
        ("RandomResizedCrop", &RandomResizedCrop::new(1)),
    ];
    for (class, transform) in all {
        assert_eq!(i64::from(transform.order()), recorded["names"]["orders"][class].as_i64().unwrap(), "{class}");
    }
    let block = |b: &dyn TargetBlock| b.describe().swap_remove(0);
    assert_eq!([block(&CategoryBlock::vocab(["b", "a"]).add_na())], names("Categorize")[..]);
    let multi = [block(&MultiCategoryBlock), block(&MultiCategoryBlock::vocab(["b", "a"]))];
    assert_eq!(multi, names("MultiCategorize")[..]);
    assert_eq!([block(&MultiCategoryBlock::encoded(["b", "a"]))], names("EncodedMultiCategorize")[..]);
    assert_eq!(MultiCategoryBlock.describe()[1..], names("OneHotEncode")[..]);
    assert_eq!([block(&RegressionBlock), block(&RegressionBlock::n_out(2))], names("RegressionSetup")[..]);
    let cols = [Col::At(1), Col::from("b")];
    let readers = [
        ColReader::new("fname").name(),
        ColReader::new(1).label_delim(" ").name(),
        ColReader::new(cols).pref("p/").suff(".jpg").name(),
    ];
    assert_eq!(readers, names("ColReader")[..]);
    assert_eq!([ItemGetter(0).name()], names("ItemGetter")[..]);
    assert_eq!([AttrGetter::new("name").name()], names("AttrGetter")[..]);
}

#[test]
fn parity_vocabularies_and_targets() {
    let Some(recorded) = recorded() else { return };
    let b = &recorded["blocks"];
    let learned = |block: &dyn TargetBlock, labels: &[Value]| block.learn(&labels.iter().collect::<Vec<_>>()).unwrap();
    let names = |rule: &Arc<dyn Encode>| rule.vocab().names().to_vec();
    let multi = learned(&MultiCategoryBlock, &[["b", "a"].into(), ["c"].into(), ["a", "Z"].into()]);
    assert_eq!(names(&multi), strings(&b["multi_vocab"]));
    let with_na = learned(&MultiCategoryBlock.add_na(), &[["b", "a"].into(), ["c"].into()]);
    assert_eq!(names(&with_na), strings(&b["multi_vocab_na"]));
    let given = MultiCategoryBlock::vocab(["c", "a", "b"]);
    assert_eq!(names(&learned(&given, &[["a"].into()])), strings(&b["multi_given"]));
    assert_eq!(names(&learned(&given.add_na(), &[["a"].into()])), strings(&b["multi_given_na"]));
    let some: Value = ["c", "Z"].into();
    assert_eq!(multi.encode(&some).unwrap(), Target::MultiCategory(floats(&b["one_hot"])));
    assert_eq!(multi.encode(&Value::List(vec![])).unwrap(), Target::MultiCategory(floats(&b["one_hot_none"])));
    let ids = format!("TensorMultiCategory({})", serde_json::to_string(&b["multi_ids"]).unwrap().replace(',', ", "));
    assert_eq!(multi.steps(&some, &multi.encode(&some).unwrap())[0], ids);
    for (rule, error) in [(&multi, "multi_error"), (&with_na, "multi_error_na")] {
        let e = rule.encode(&["x", "a", "y"].into()).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Label, b[error].as_str().unwrap()));
    }
    let encoded = learned(&MultiCategoryBlock::encoded(["b", "a", "c"]), &[]);
    assert_eq!(names(&encoded), strings(&b["encoded_vocab"]));
    assert_eq!(encoded.encode(&[1, 0, 1].into()).unwrap(), Target::MultiCategory(floats(&b["encoded"])));
    assert!(encoded.encode(&[1, 0].into()).is_err() && encoded.encode(&["b"].into()).is_err());

    assert_eq!(names(&learned(&CategoryBlock::vocab(["b", "a", "c"]), &[])), strings(&b["cat_given"]));
    let unsorted = learned(&CategoryBlock::vocab(["b", "a", "c"]).sort(false).add_na(), &[]);
    assert_eq!(names(&unsorted), strings(&b["cat_given_na_unsorted"]));
    assert_eq!(unsorted.encode(&"zz".into()).unwrap(), Target::Category(b["cat_na_unknown"].as_i64().unwrap()));
    let counts = learned(&CategoryBlock, &[10, 9, 2, 10, 33].map(Value::from));
    assert_eq!(names(&counts), numbers(&b["cat_numbers"]).iter().map(usize::to_string).collect::<Vec<_>>());

    let words = |block: DataBlock| block.datasets(Files(vec!["a".into()])).err().unwrap().message().to_owned();
    let block = || DataBlock::new((ImageBlock, CategoryBlock)).get_y(parent_label);
    let expected = |key: &str| b[key].as_str().unwrap().lines().next().unwrap().to_owned();
    assert_eq!(words(block().get_x((ItemGetter(0), ItemGetter(1)))), expected("getters_x2"));
    assert_eq!(words(block().get_y((parent_label, parent_label))), expected("getters_y2"));
    assert_eq!(words(block().get_y((parent_label, parent_label, parent_label))), expected("getters_y0"));

    for case in list(&recorded["tensor_texts"]) {
        assert_eq!(Target::Numbers(floats(&case[0])).to_string(), case[1].as_str().unwrap());
    }
}

#[test]
fn parity_item_transforms() {
    let Some(recorded) = recorded() else { return };
    let (Some(images), Some(expected)) =
        (safetensors("data/images.safetensors"), safetensors("data/item_tfms.safetensors"))
    else {
        return;
    };
    let mut seen = 0;
    for case in list(&recorded["item_tfms"]) {
        let name = case["name"].as_str().unwrap();
        let source = &images[&format!("img_{}", case["image"].as_str().unwrap())];
        let picture = Picture { width: source.shape[1], height: source.shape[0], rgb: source.bytes.clone() };
        let size = || (whole(&case["size_hw"][0]), whole(&case["size_hw"][1]));
        let mut rng = rng::Rng::at(0, rng::Purpose::ItemTransform, 0, 0);
        // Every transform goes through its settings, as in an exported model.
        let exported = |t: &dyn ItemTransform| item_transform_from(&t.settings()).unwrap();
        let made = match case["kind"].as_str().unwrap() {
            "CropPad" => {
                let mode = [PadMode::Zeros, PadMode::Border, PadMode::Reflection];
                let place = ["zeros", "border", "reflection"].iter().position(|m| case["pad_mode"] == *m).unwrap();
                exported(&CropPad::new(size()).pad_mode(mode[place])).apply(picture, Subset::Train, &mut rng)
            }
            "RandomCrop" if case["split_idx"] == 1 => {
                exported(&RandomCrop::new(size())).apply(picture, Subset::Valid, &mut rng)
            }
            "RandomCrop" => {
                let (left, top) = (case["tl_xy"][0].as_i64().unwrap(), case["tl_xy"][1].as_i64().unwrap());
                RandomCrop::new(size()).apply_at(picture, left, top)
            }
            "RatioResize" => {
                exported(&RatioResize::new(whole(&case["max_sz"]))).apply(picture, Subset::Valid, &mut rng)
            }
            "FlipItem" => exported(&FlipItem::new(1.0)).apply(picture, Subset::Train, &mut rng),
            "DihedralItem" => Ok(dihedral(picture, whole(&case["k"]))),
            other => panic!("unknown transform {other}"),
        };
        let (made, expected) = (made.unwrap(), &expected[name]);
        assert_eq!([made.height, made.width, 3], expected.shape[..], "{name}");
        assert!(made.rgb == expected.bytes, "{name}: pixels differ");
        seen += 1;
    }
    assert!(seen > 40);
}

/// The recorded set: 20 files from three PNGs.
fn pets(root: &Path) -> Option<PathBuf> {
    let dir = root.join("pets/images");
    std::fs::create_dir_all(&dir).unwrap();
    for (count, (class, number)) in
        ["Bombay", "beagle", "Abyssinian", "pug"].iter().flat_map(|c| (1..=5).map(move |n| (c, n))).enumerate()
    {
        let source = fixture(&format!("data/img_{}.png", ["landscape", "portrait", "square"][count % 3]))?;
        std::fs::copy(source, dir.join(format!("{class}_{number}.jpg"))).unwrap();
    }
    Some(dir)
}

fn stem(item: &Item) -> Result<(String, i64)> {
    let stem = item.path()?.file_stem().unwrap().to_str().unwrap().to_owned();
    let number = stem.rsplit_once('_').unwrap().1.parse().unwrap();
    Ok((stem, number))
}

fn kinds(item: &Item) -> Result<Vec<String>> {
    let (stem, number) = stem(item)?;
    let mut all = vec![stem.split('_').next().unwrap().to_owned(), ["even", "odd"][number as usize % 2].to_owned()];
    all.sort();
    Ok(all)
}

fn number(item: &Item) -> Result<f64> {
    Ok(stem(item)?.1 as f64 / 2.0)
}

fn place(item: &Item) -> Result<Vec<Value>> {
    let (stem, number) = stem(item)?;
    Ok(vec![Value::Int(stem.len() as i64), Value::Float(number as f64 / 4.0)])
}

fn coded(item: &Item) -> Result<[i64; 3]> {
    let (stem, _) = stem(item)?;
    Ok(["A", "b", "p"].map(|c| i64::from(stem.starts_with(c))))
}

fn described<T: TargetBlock + 'static>(target: T) -> DataBlock {
    DataBlock::new((ImageBlock, target)).splitter(RandomSplitter::seed(42)).item_tfms(Resize::new(46))
}

fn by_name() -> impl Getter + use<> {
    using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$").unwrap(), "name")
}

#[test]
fn parity_summaries_of_other_blocks() {
    let root = tempfile::tempdir().unwrap();
    let Some(dir) = pets(root.path()) else { return };
    let given = CategoryBlock::vocab(["pug", "beagle", "Bombay", "Abyssinian"]).sort(false).add_na();
    let tfms = (RatioResize::new(40), FlipItem::new(1.0), CropPad::new((30, 40)));
    let cases = [
        ("multi", described(MultiCategoryBlock).get_y(getter(kinds))),
        ("encoded", described(MultiCategoryBlock::encoded(["A", "b", "p"])).get_y(getter(coded))),
        ("regression", described(RegressionBlock).get_y(getter(number))),
        ("regression2", described(RegressionBlock::n_out(2)).get_y(getter(place))),
        ("given_vocab", described(given).get_y(by_name())),
        ("item_tfms", described(CategoryBlock).get_y(by_name()).item_tfms(tfms)),
    ];
    for (name, block) in cases {
        let Some(expected) = text(&format!("data/summary_block_{name}.txt")) else { return };
        let made = block.summary(&dir).unwrap().replace(&format!("{}/", root.path().display()), "");
        for (line, (a, b)) in made.lines().zip(expected.lines()).enumerate() {
            assert_eq!(a, b, "{name}, line {}", line + 1);
        }
        assert_eq!(made.trim_end(), expected.trim_end(), "{name}");
    }
}

/// The loss that a learner of these data starts with.
fn loss(dls: &DataLoaders) -> String {
    let learn = onecycle::learner::vision_learner_on(dls, onecycle::nn::resnet18, onecycle::Device::Cpu).unwrap();
    let summary = learn.summary().unwrap();
    summary.lines().find_map(|l| l.strip_prefix("Loss function: FlattenedLoss of ")).unwrap().to_owned()
}

#[test]
fn parity_of_the_usual_data_sets() {
    let Some(recorded) = recorded() else { return };
    let root = tempfile::tempdir().unwrap();
    let Some(dir) = pets(root.path()) else { return };
    std::fs::write(root.path().join("labels.csv"), recorded["labels_csv"].as_str().unwrap()).unwrap();
    let files = get_image_files(&dir).unwrap();
    let build = |d: ImageDataLoaders| d.seed(42).item_tfms(Resize::new(46)).bs(4).dataloaders().unwrap();
    let names = |dls: &DataLoaders| {
        let name = |p: &Path| p.file_name().unwrap().to_str().unwrap().to_owned();
        dls.valid_ds().paths().map(name).collect::<Vec<_>>()
    };
    let targets = |dls: &DataLoaders| dls.valid.one_batch().unwrap().targets;

    let columns = Columns::default().folder("pets/images").label_delim(" ");
    let dls = build(ImageDataLoaders::from_csv(root.path(), "labels.csv", columns).unwrap());
    let csv = &recorded["constructors"]["csv"];
    assert_eq!((dls.vocab(), dls.c()), (&strings(&csv["vocab"])[..], whole(&csv["c"])));
    assert_eq!((dls.train_ds().len(), dls.valid_ds().len()), (whole(&csv["train"]), whole(&csv["valid"])));
    assert_eq!(names(&dls), strings(&csv["valid_names"]));
    let values = list(&csv["valid_targets"]).iter().flat_map(floats).collect();
    assert_eq!(targets(&dls), Targets::MultiCategories(Rows { values, width: whole(&csv["c"]) }));
    let tensor = targets(&dls).to_tensor(onecycle::Device::Cpu).unwrap();
    assert_eq!((tensor.dtype(), &tensor.shape()[..]), (onecycle::DType::F32, &[4, 6][..]));
    assert_eq!(dls.one_batch().unwrap().len(), whole(&csv["bs"]));
    assert_eq!(loss(&dls), "BCEWithLogitsLoss()");

    let dls = build(ImageDataLoaders::from_name_re(files.clone(), r"(.+)_\d+.jpg$").unwrap());
    let name_re = &recorded["constructors"]["name_re"];
    assert_eq!((dls.vocab(), dls.c()), (&strings(&name_re["vocab"])[..], whole(&name_re["c"])));
    assert_eq!(names(&dls), strings(&name_re["valid_names"]));
    assert_eq!(
        targets(&dls),
        Targets::Categories(numbers(&name_re["valid_targets"]).iter().map(|&n| n as i64).collect())
    );

    let halves: Vec<f64> = files.iter().map(|f| number(&f.as_path().into()).unwrap()).collect();
    let dls = build(ImageDataLoaders::from_lists(files.clone(), halves).unwrap());
    let lists = &recorded["constructors"]["lists"];
    assert_eq!((dls.c(), targets(&dls)), (whole(&lists["c"]), Targets::Number(floats(&lists["valid_targets"]))));
    assert_eq!(loss(&dls), "MSELoss()");
    assert_eq!(dls.test_dl(files[..3].to_vec()).unwrap().one_batch().unwrap().targets, Targets::unknown(3));
    assert!(ImageDataLoaders::from_lists(files.clone(), vec!["a"]).is_err());

    for (i, file) in files.iter().enumerate() {
        let to = root.path().join(["tree/train", "tree/valid"][i / 3 % 2]).join(["cat", "dog"][i % 2]);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(file, to.join(format!("{i}.png"))).unwrap();
    }
    let dls = build(ImageDataLoaders::from_folder(root.path().join("tree")));
    assert_eq!((dls.vocab().join(" "), dls.train_ds().len(), dls.valid_ds().len()), ("cat dog".into(), 11, 9));
    let dls = build(ImageDataLoaders::from_folder(root.path().join("tree")).valid_pct(0.5).vocab(["dog", "cat"]));
    assert_eq!((dls.vocab().join(" "), dls.valid_ds().len()), ("cat dog".into(), 10));
    let all = ImageDataLoaders::from_path_func(files, getter(kinds)).y_block(MultiCategoryBlock);
    assert_eq!(build(all).c(), whole(&csv["c"]));
}

/// What cannot be a target says so, and names the item.
#[test]
fn labels_of_the_wrong_kind_are_named() {
    let files = || Files((1..9).map(|i| format!("set/cat_{i}.jpg").into()).collect());
    let fails = |block: DataBlock| block.splitter(IndexSplitter::new([0])).datasets(files()).err().unwrap();
    let e = fails(described(MultiCategoryBlock).get_y(parent_label));
    assert!(e.item() == Some("set/cat_2.jpg") && e.to_string().contains("CategoryBlock"), "{e}");
    let e = fails(described(CategoryBlock).get_y(getter(kinds)));
    assert!(e.item().is_some() && e.to_string().contains("MultiCategoryBlock"), "{e}");
    let e = fails(described(RegressionBlock).get_y(parent_label));
    assert!(e.item().is_some() && e.to_string().contains("'set' is no number"), "{e}");
    let ragged = getter(|i: &Item| Ok(vec![1.0; if i.to_string().contains('5') { 2 } else { 1 }]));
    let e = fails(described(RegressionBlock).get_y(ragged));
    assert!(e.item() == Some("set/cat_5.jpg") && e.to_string().contains("2 numbers instead of 1"), "{e}");
    let e = fails(described(CategoryBlock).get_y(ColReader::new(1)));
    assert!(e.item() == Some("set/cat_2.jpg") && e.to_string().contains("Table"), "{e}");
    let table = Table::parse("t.csv", "fname,label\n1.jpg,a\n2.jpg,b\n3.jpg,a\n").unwrap();
    let block = || described(CategoryBlock).get_y(ColReader::new("label")).splitter(EndSplitter::new(0.4, true));
    let e = block().datasets(&table).err().unwrap();
    assert!(e.item().unwrap().contains("t.csv, row 1") && e.to_string().contains("get_x"), "{e}");
    let made = block().get_x(ColReader::new("fname").folder("img")).datasets(&table).unwrap();
    assert_eq!(made.paths()[2], Path::new("img").join("3.jpg"));
    assert_eq!(made.class_counts(Subset::Train), [1, 1]);
}

/// Tables through everything that a user sees: the walk-through, the titles of pictures, the same walk through files.
#[test]
fn a_table_goes_all_the_way() {
    let Some(recorded) = recorded() else { return };
    let root = tempfile::tempdir().unwrap();
    let Some(dir) = pets(root.path()) else { return };
    let table = Table::parse("labels.csv", recorded["labels_csv"].as_str().unwrap()).unwrap();
    let by_table = described(MultiCategoryBlock)
        .get_x(ColReader::new("fname").folder(&dir))
        .get_y(ColReader::new("label").label_delim(" "))
        .bs(4);
    let shown = by_table.summary(&table).unwrap();
    for line in [
        "Collecting items from labels.csv",
        "Found 20 items",
        "2 datasets of sizes 16,4",
        "      labels.csv, row 2 (Abyssinian_2.jpg, Abyssinian even)",
        "      [Abyssinian, even]",
        "      TensorMultiCategory([0, 3])",
        "      (TensorImage of size 4x3x46x46, TensorMultiCategory of size 4x6)",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} is not in\n{shown}");
    }
    let dls = by_table.dataloaders(&table).unwrap();
    let by_files = described(MultiCategoryBlock).get_y(getter(kinds)).bs(4).dataloaders(&dir).unwrap();
    let (a, b) = (dls.one_batch().unwrap(), by_files.one_batch().unwrap());
    assert!(a.bytes[..] == b.bytes[..] && a.targets == b.targets && a.paths == b.paths);
    assert_eq!(
        dls.datasets().encode().title(&Target::MultiCategory(vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0])),
        "Abyssinian;even"
    );
    #[cfg(feature = "plot")]
    dls.show_batch().unwrap();
    let labels: Vec<Vec<String>> = vec![vec!["pug".into(), "odd".into()], vec![]];
    let two = by_files.test_loader(a.paths[..2].to_vec(), Some(&labels)).unwrap().one_batch().unwrap();
    assert_eq!(two.targets.get(1), Target::MultiCategory(vec![0.0; 6]));

    // The same table once more, as a test set with and without labels; and one with a label that nobody has learned.
    let labelled = dls.test_source(&table, true).unwrap();
    let items: Vec<usize> = labelled.epoch(0).flat_map(|b| b.unwrap().indices).collect();
    assert!(items == (0..20).collect::<Vec<_>>() && labelled.targets() == dls.train.targets());
    let blind = dls.test_source(&table, false).unwrap();
    assert!(blind.one_batch().unwrap().targets == Targets::unknown(4) && blind.path(3) == labelled.path(3));
    let other = Table::parse("test.csv", "fname,label\nAbyssinian_2.jpg,Abyssinian zebra\n").unwrap();
    let e = dls.test_source(&other, true).err().unwrap();
    assert!(e.item().unwrap().ends_with("Abyssinian_2.jpg") && e.message().contains("'zebra'"), "{e}");
    assert_eq!(dls.test_source(&other, false).unwrap().n_items(), 1);
    let empty = Table::parse("none.csv", "fname,label\n").unwrap();
    assert!(dls.test_source(&empty, false).err().unwrap().to_string().contains("none.csv: no items found"));
}

/// A bad record in an exported model is an error, not a transform with other settings.
#[test]
fn settings_that_lack_something_are_refused() {
    let all: [&dyn ItemTransform; 6] = [
        &Resize::new(4),
        &CropPad::new(4),
        &RandomCrop::new(4),
        &RatioResize::new(4),
        &FlipItem::default(),
        &DihedralItem::default(),
    ];
    for transform in all {
        let whole = transform.settings();
        for key in whole.as_object().unwrap().keys() {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(key);
            assert_eq!(item_transform_from(&less).unwrap_err().kind(), ErrorKind::Format, "{whole} without {key}");
        }
    }
}
