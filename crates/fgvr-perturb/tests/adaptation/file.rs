//! What is saved and loaded again.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use fgvr_perturb::{AdaptConfig, AdaptError, AdaptKind, Adaptation};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::FEW;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("adaptation.safetensors")
    }

    fn files(&self) -> usize {
        fs::read_dir(self.0.path()).unwrap().count()
    }
}

#[test]
fn what_was_saved_is_loaded_to_the_bit_and_the_bytes_are_the_same_each_time() {
    let folder = Folder::new();
    for kind in AdaptKind::ALL {
        let cfg = AdaptConfig {
            ridge: 0.1,
            neighbours: 4,
            neighbour_weight: 1. / 3.,
            seed: u64::MAX,
            kind,
        };
        let adaptation = FEW
            .fit(&cfg)
            .unwrap()
            .with_source("data", "a \"quoted\" \\ folder\n\u{1}, fåglar")
            .with_source("network", "resnet50");
        // The second replaces the first.
        adaptation.save(folder.file()).unwrap();
        adaptation.save(folder.file()).unwrap();
        let loaded = Adaptation::load(folder.file()).unwrap();
        assert_eq!(loaded, adaptation);
        assert_eq!(
            loaded.apply(&FEW.plain()).unwrap(),
            adaptation.apply(&FEW.plain()).unwrap()
        );
        let bytes = fs::read(folder.file()).unwrap();
        loaded.save(folder.file()).unwrap();
        assert_eq!(fs::read(folder.file()).unwrap(), bytes);
        assert_eq!(folder.files(), 1);
    }
}

#[test]
fn the_file_is_plain_safetensors_for_others() {
    let folder = Folder::new();
    let adaptation = FEW.fit_kind(AdaptKind::default());
    adaptation.save(folder.file()).unwrap();
    let tensors = candle_core::safetensors::load(folder.file(), &Device::Cpu).unwrap();
    assert_eq!(tensors.len(), 2);
    let values = |name: &str| -> Vec<f32> {
        let tensor: &Tensor = &tensors[name];
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(tensors["weight"].dims(), [10, 10]);
    assert_eq!(values("weight"), adaptation.weight());
    assert_eq!(values("mean"), adaptation.mean());
}

#[test]
fn a_file_that_cannot_be_written_or_read_is_named_and_nothing_is_left() {
    let folder = Folder::new();
    let missing = folder.0.path().join("no/such/folder.safetensors");
    let adaptation = FEW.fit_kind(AdaptKind::Nuisance);
    for result in [
        adaptation.save(&missing),
        Adaptation::load(&missing).map(|_| ()),
        // A folder.
        Adaptation::load(folder.0.path()).map(|_| ()),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, AdaptError::Io { .. }), "{error}");
        let name = folder.0.path().display().to_string();
        assert!(error.to_string().starts_with(&name), "{error}");
    }
    // A folder stands where the file should go.
    fs::create_dir(folder.file()).unwrap();
    assert!(adaptation.save(folder.file()).is_err());
    assert_eq!(folder.files(), 1);
    assert!(adaptation.save("/").is_err());
}

/// The contents of a file as the library reads them, to be changed and written again.
#[derive(Clone)]
struct Contents {
    metadata: HashMap<String, String>,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Contents {
    fn of(adaptation: &Adaptation, folder: &Folder) -> Self {
        adaptation.save(folder.file()).unwrap();
        let bytes = fs::read(folder.file()).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let c = adaptation.width();
        Self {
            metadata: header.metadata().clone().unwrap(),
            tensors: vec![
                ("mean".into(), vec![c], adaptation.mean().to_vec()),
                ("weight".into(), vec![c, c], adaptation.weight().to_vec()),
            ],
        }
    }

    fn load(&self, folder: &Folder) -> Result<Adaptation, AdaptError> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let data: Vec<Vec<u8>> = self.tensors.iter().map(|t| bytes(&t.2)).collect();
        let views = self
            .tensors
            .iter()
            .zip(&data)
            .map(|((name, shape, _), data)| {
                (
                    name,
                    TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
                )
            });
        let bytes = safetensors::serialize(views, Some(self.metadata.clone())).unwrap();
        fs::write(folder.file(), bytes).unwrap();
        Adaptation::load(folder.file())
    }
}

#[test]
fn every_part_of_a_file_is_checked() {
    let folder = Folder::new();
    let adaptation = FEW.fit_kind(AdaptKind::NuisanceNeighbours);
    let whole = Contents::of(&adaptation, &folder);
    assert_eq!(whole.load(&folder).unwrap(), adaptation);

    type Change = fn(&mut Contents);
    fn set(contents: &mut Contents, name: &str, value: &str) {
        contents.metadata.insert(name.into(), value.into());
    }
    let cases: [(Change, &str); 16] = [
        (
            |c| c.metadata.clear(),
            "no format in its metadata, expected fgvr-adaptation",
        ),
        (
            |c| set(c, "format", "pt"),
            "the format \"pt\", expected fgvr-adaptation",
        ),
        (
            |c| set(c, "version", "2"),
            "version \"2\", expected version \"1\"",
        ),
        (
            |c| drop(c.metadata.remove("version")),
            "version \"\", expected version \"1\"",
        ),
        (
            |c| drop(c.metadata.remove("ridge")),
            "no ridge, expected all settings",
        ),
        (
            |c| set(c, "ridge", "much"),
            "ridge = \"much\", expected a value of this setting",
        ),
        (
            |c| set(c, "ridge", "-1"),
            "ridge is -1, expected a finite value >= 0, expected settings in range",
        ),
        (
            |c| set(c, "kind", "pca"),
            "kind is \"pca\", expected one of nuisance-neighbours, nuisance, centred, total, random-basis, between, \
             neighbours, expected a kind of this version",
        ),
        (
            |c| set(c, "images", "-3"),
            "images = \"-3\", expected a value of this setting",
        ),
        (
            |c| set(c, "colour", "red"),
            "an entry \"colour\", expected those of this version",
        ),
        (
            |c| c.tensors[1].2[7] = f32::NAN,
            "NaN at entry 7 of weight, expected finite values",
        ),
        (
            |c| c.tensors[0].2[2] = f32::INFINITY,
            "inf at entry 2 of mean, expected finite values",
        ),
        (
            |c| c.tensors[1].1 = vec![5, 20],
            "mean [10] and weight [5, 20], expected shapes [C] and [C, C]",
        ),
        (
            |c| c.tensors[0].1 = vec![2, 5],
            "mean [2, 5] and weight [10, 10], expected shapes [C] and [C, C]",
        ),
        (
            |c| drop(c.tensors.remove(0)),
            "tensors [\"weight\"], expected mean and weight",
        ),
        (
            |c| c.tensors.push(("bias".into(), vec![1], vec![0.])),
            "tensors [\"bias\", \"mean\", \"weight\"], expected mean and weight",
        ),
    ];
    for (change, expected) in cases {
        let mut changed = whole.clone();
        change(&mut changed);
        let error = changed.load(&folder).unwrap_err();
        assert!(matches!(error, AdaptError::File { .. }), "{error}");
        let expected = format!("{}: {expected}", folder.file().display());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_file_cut_short_or_with_a_changed_byte_is_refused_or_read_without_a_panic() {
    let folder = Folder::new();
    FEW.fit_kind(AdaptKind::Nuisance)
        .save(folder.file())
        .unwrap();
    let bytes = fs::read(folder.file()).unwrap();
    for length in 0..bytes.len() {
        fs::write(folder.file(), &bytes[..length]).unwrap();
        let error = Adaptation::load(folder.file()).unwrap_err();
        assert!(
            matches!(error, AdaptError::File { .. }),
            "{length}: {error}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    fs::write(folder.file(), longer).unwrap();
    assert!(Adaptation::load(folder.file()).is_err());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            fs::write(folder.file(), changed).unwrap();
            // A changed digit is another number, so some of them are read.
            if let Ok(adaptation) = Adaptation::load(folder.file()) {
                assert_eq!(adaptation.width(), 10);
                assert!(adaptation.weight().iter().all(|value| value.is_finite()));
            }
        }
    }
}
