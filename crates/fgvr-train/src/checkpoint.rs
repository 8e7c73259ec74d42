//! Checkpoints: written aside, synced, read back, and only then named.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors};
use serde::{Deserialize, Serialize};

use crate::config::{Layers, PretrainConfig};
use crate::run_folder::{sync_folder, write_atomically};
use crate::{DataRecord, Error, Result, RunFolder, digest};

/// All tensors of a run by name; the part before the first dot names the file they go to.
pub type State = BTreeMap<String, Tensor>;

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Optimiser steps done.
    pub step: u64,
    /// SHA-256 of each file of tensors, by file name.
    pub files: BTreeMap<String, String>,
    /// The instruction set the run used: another one gives other last bits.
    pub simd: String,
    /// Version of the program.
    pub version: String,
    /// The best validation figure so far, where there are labels.
    pub best_val: Option<f64>,
    /// What it was trained on; absent in checkpoints of versions that did not remember it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
    /// Weights in a file or folder that the run started from, by their path from the root; they are looked at again
    /// for comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

/// A checkpoint that was read.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) manifest: Manifest,
    /// All tensors by name.
    pub(crate) tensors: HashMap<String, Tensor>,
    /// The settings it was made with, beside which those in the run folder may have been changed; absent in checkpoints
    /// of versions that did not keep them.
    pub(crate) settings: Option<PretrainConfig>,
}

/// The file in a checkpoint that says which settings it was made with.
const SETTINGS: &str = "config.toml";

/// Saves `state`, made with the settings `config`, as `checkpoints/step-…`, points `last` (and `best-val`, if `is_best`) at
/// it, and removes all but as many as `config` keeps and those pointed at.
///
/// # Errors
/// A file that cannot be written or does not read back as written; earlier checkpoints still stand.
pub(crate) fn save(
    run: &RunFolder,
    state: &State,
    mut manifest: Manifest,
    is_best: bool,
    config: &PretrainConfig,
) -> Result<PathBuf> {
    let checkpoints = run.join("checkpoints");
    let name = format!("step-{:08}", manifest.step);
    let path = checkpoints.join(&name);
    let aside = checkpoints.join(format!(".{name}.partial"));
    remove_if_there(&aside)?;
    write_all(&aside, config, state, &mut manifest).inspect_err(|_| {
        // Half a checkpoint is of no use, and takes room on a disk that may be full.
        let _ = fs::remove_dir_all(&aside);
    })?;
    // A run resumed from an earlier step may come by a step that was saved before: same bits.
    remove_if_there(&path)?;
    fs::rename(&aside, &path).map_err(Error::io(&path))?;
    sync_folder(&checkpoints)?;
    write_atomically(&checkpoints.join("last"), name.as_bytes())?;
    if is_best {
        write_atomically(&checkpoints.join("best-val"), name.as_bytes())?;
    }
    prune(&checkpoints, config.checkpoint.keep)?;
    Ok(path)
}

/// The files of a checkpoint in a new folder, on disk and read back.
fn write_all(
    folder: &Path,
    config: &PretrainConfig,
    state: &State,
    manifest: &mut Manifest,
) -> Result<()> {
    fs::create_dir(folder).map_err(Error::io(folder))?;
    for (file, tensors) in by_file(state) {
        let target = folder.join(&file);
        // `save` would keep all but the owner from reading it: the permissions are those of a file made in place.
        let made = fs::File::create(&target).and_then(|file| file.metadata());
        let permissions = made.map_err(Error::io(&target))?.permissions();
        safetensors::save(&tensors, &target).map_err(|e| {
            // Only its first line: candle's errors bring a backtrace along where one is asked for.
            let text = e.to_string();
            let problem = text.lines().next().unwrap_or_default();
            Error::checkpoint(&target, format!("cannot be written ({problem})"))
        })?;
        fs::set_permissions(&target, permissions)
            .and_then(|()| fs::File::open(&target)?.sync_all())
            .map_err(Error::io(&target))?;
        verify(&target, &tensors)?;
        let hash = digest::of_file(&target).map_err(Error::io(&target))?;
        manifest.files.insert(file, hash);
    }
    write_atomically(&folder.join(SETTINGS), config.to_toml()?.as_bytes())?;
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|e| Error::checkpoint(folder, e.to_string()))?;
    write_atomically(&folder.join("manifest.json"), &text)?;
    sync_folder(folder)
}

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    #[default]
    Last,
    /// The best by the online kNN on the validation split.
    BestVal,
}

fgvr_nn::named!(Which, "Its name on a command line, and of the file that points at it." {
    Last = "last",
    BestVal = "best-val",
});

/// Loads the newest checkpoint.
///
/// # Errors
/// None is there, or a file is missing, cut short or altered.
pub(crate) fn load_last(run: &RunFolder) -> Result<Saved> {
    load_which(run, Which::Last)
}

/// Loads the checkpoint that the file called [`Which::name`] points at.
///
/// # Errors
/// None is there, or a file is missing, cut short or altered.
pub(crate) fn load_which(run: &RunFolder, which: Which) -> Result<Saved> {
    load(&folder(run, which)?)
}

/// The folder of the checkpoint that the file called [`Which::name`] points at.
fn folder(run: &RunFolder, which: Which) -> Result<PathBuf> {
    let pointer = run.join("checkpoints").join(which.name());
    let name = fs::read_to_string(&pointer).map_err(|_| {
        let problem = match which {
            Which::Last => {
                "has no checkpoint yet (no checkpoints/last); start the run anew with another --out"
            }
            Which::BestVal => {
                "has no best checkpoint (no checkpoints/best-val): its images have no labels to \
                 validate with; take the last one"
            }
        };
        Error::run(run.path(), problem)
    })?;
    Ok(run.join("checkpoints").join(name.trim()))
}

/// The manifest and the settings of a checkpoint, without its tensors.
///
/// # Errors
/// None is there, or a file is missing, cut short or altered.
pub(crate) fn read_which(
    run: &RunFolder,
    which: Which,
) -> Result<(Manifest, Option<PretrainConfig>)> {
    let path = folder(run, which)?;
    Ok((manifest(&path)?, settings(&path)?))
}

/// Loads one checkpoint folder.
///
/// # Errors
/// A file is missing, cut short or altered.
pub(crate) fn load(path: &Path) -> Result<Saved> {
    let manifest = manifest(path)?;
    let mut tensors = HashMap::new();
    for (name, expected) in &manifest.files {
        let file = path.join(name);
        let found = digest::of_file(&file)
            .map_err(|e| Error::checkpoint(&file, format!("cannot be read ({e}){REMEDY}")))?;
        if &found != expected {
            return Err(Error::checkpoint(
                &file,
                format!(
                    "is damaged: expected SHA-256 {}…, found {}…{REMEDY}",
                    digest::short(expected),
                    digest::short(&found)
                ),
            ));
        }
        tensors.extend(safetensors::load(&file, &Device::Cpu)?);
    }
    Ok(Saved {
        manifest,
        tensors,
        settings: settings(path)?,
    })
}

const REMEDY: &str =
    "; write the name of another folder in checkpoints/ into checkpoints/last, or start anew";

fn manifest(path: &Path) -> Result<Manifest> {
    let path = path.join("manifest.json");
    let manifest = fs::read(&path)
        .map_err(|e| Error::checkpoint(&path, format!("cannot be read ({e}){REMEDY}")))?;
    serde_json::from_slice(&manifest)
        .map_err(|e| Error::checkpoint(&path, format!("is damaged ({e}){REMEDY}")))
}

/// The settings that the checkpoint at `path` was made with; `None` where it does not say.
fn settings(path: &Path) -> Result<Option<PretrainConfig>> {
    let path = path.join(SETTINGS);
    if !path.exists() {
        return Ok(None);
    }
    let mut layers = Layers::default();
    let settings = layers.file(&path).and_then(|()| layers.resolve());
    settings
        .map(Some)
        .map_err(|e| Error::checkpoint(&path, format!("cannot be read ({e}){REMEDY}")))
}

/// The tensors under `section`, without it.
pub(crate) fn under(tensors: &HashMap<String, Tensor>, section: &str) -> HashMap<String, Tensor> {
    let section = format!("{section}.");
    let inside = |name: &String| name.strip_prefix(&section).map(str::to_owned);
    tensors
        .iter()
        .filter_map(|(name, tensor)| Some((inside(name)?, tensor.clone())))
        .collect()
}

fn by_file(state: &State) -> BTreeMap<String, HashMap<String, Tensor>> {
    let mut files = BTreeMap::<String, HashMap<String, Tensor>>::new();
    for (name, tensor) in state {
        let group = name.split('.').next().unwrap_or(name);
        files
            .entry(format!("{group}.safetensors"))
            .or_default()
            .insert(name.clone(), tensor.clone());
    }
    files
}

/// Reads `path` back and compares it bit for bit.
fn verify(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<()> {
    let read = safetensors::load(path, &Device::Cpu)?;
    for (name, tensor) in tensors {
        let same = match read.get(name) {
            Some(found) => found.dims() == tensor.dims() && bits(found)? == bits(tensor)?,
            None => false,
        };
        if !same {
            return Err(Error::checkpoint(
                path,
                format!("{name} does not read back as it was written; check the disk"),
            ));
        }
    }
    Ok(())
}

/// A tensor's values as bits, so that NaN equals itself.
fn bits(tensor: &Tensor) -> Result<Vec<u64>> {
    use candle_core::DType;
    let flat = tensor.flatten_all()?;
    Ok(match flat.dtype() {
        DType::F32 => flat
            .to_vec1::<f32>()?
            .iter()
            .map(|v| u64::from(v.to_bits()))
            .collect(),
        DType::F64 => flat.to_vec1::<f64>()?.iter().map(|v| v.to_bits()).collect(),
        DType::U32 => flat.to_vec1::<u32>()?.into_iter().map(u64::from).collect(),
        DType::U8 => flat.to_vec1::<u8>()?.into_iter().map(u64::from).collect(),
        DType::I64 => flat
            .to_vec1::<i64>()?
            .into_iter()
            .map(i64::cast_unsigned)
            .collect(),
        other => {
            return Err(Error::Tensor(candle_core::Error::Msg(format!(
                "checkpoint: expected f32, f64, u32, i64 or u8, found {other:?}"
            ))));
        }
    })
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// Removes what a crash left aside, and all but the newest `keep` checkpoints and those pointed at.
fn prune(checkpoints: &Path, keep: usize) -> Result<()> {
    let pointed: Vec<String> = ["last", "best-val"]
        .iter()
        .filter_map(|p| fs::read_to_string(checkpoints.join(p)).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    let mut steps = Vec::new();
    for entry in fs::read_dir(checkpoints).map_err(Error::io(checkpoints))? {
        let entry = entry.map_err(Error::io(checkpoints))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".partial") {
            remove_if_there(&entry.path())?;
        } else if name.starts_with("step-") {
            steps.push(name);
        }
    }
    steps.sort_unstable();
    let old = steps.len().saturating_sub(keep);
    for name in &steps[..old] {
        if !pointed.contains(name) {
            remove_if_there(&checkpoints.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (tempfile::TempDir, RunFolder) {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&folder.path().join("run")).unwrap();
        (folder, run)
    }

    fn manifest(step: u64) -> Manifest {
        Manifest {
            step,
            files: BTreeMap::new(),
            simd: "portable".into(),
            version: "0".into(),
            best_val: None,
            data: None,
            weights: None,
        }
    }

    fn state(value: f32) -> State {
        let tensor = Tensor::from_vec(vec![value, f32::NAN], 2, &Device::Cpu).unwrap();
        State::from([
            ("encoder.w".to_owned(), tensor.clone()),
            ("moco.queue".to_owned(), tensor),
        ])
    }

    #[test]
    fn what_is_saved_is_loaded_and_old_ones_go() {
        let (_guard, run) = run();
        let mut config = PretrainConfig::default();
        for step in 1..=4 {
            config.seed = step;
            let (state, is_best) = (state(step as f32), step == 1);
            save(&run, &state, manifest(step), is_best, &config).unwrap();
        }
        let saved = load_last(&run).unwrap();
        assert_eq!(saved.manifest.step, 4);
        assert_eq!(saved.tensors["encoder.w"].to_vec1::<f32>().unwrap()[0], 4.);
        assert_eq!(saved.settings.unwrap().seed, 4);
        let mut names: Vec<_> = fs::read_dir(run.join("checkpoints"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "best-val",
                "last",
                "step-00000001",
                "step-00000003",
                "step-00000004"
            ]
        );
    }

    #[test]
    fn a_file_cut_in_half_is_named() {
        let (_guard, run) = run();
        let config = PretrainConfig::default();
        let path = save(&run, &state(1.), manifest(1), false, &config).unwrap();
        let file = path.join("moco.safetensors");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let error = load_last(&run).unwrap_err();
        assert!(error.is_bad_input());
        let text = error.to_string();
        assert!(
            text.contains("moco.safetensors") && text.contains("damaged"),
            "{text}"
        );
    }
}
