//! A teacher's features of the training images, which distillation learns.

use std::collections::{HashMap, HashSet};

use candle_core::{Device, Tensor};
use fgvr_data::{Dataset, Splits};

use crate::config::PretrainConfig;
use crate::embed_set::{TRAIN, embed_parts};
use crate::weights_source::open_weights;
use crate::{Compute, Embedder, EmbeddingTable, Error, Observer, Result, RunFolder};

/// The features in a run folder, by the names of the images.
const NAME: &str = "teacher.npz";

/// What a teacher says of the training images, each seen plainly.
pub(crate) struct Teacher {
    table: EmbeddingTable,
    origin: String,
}

impl Teacher {
    /// Features of all training images by the teacher that `config` asks for, with the adaptation that comes with its weights;
    /// `None` without a teacher.
    ///
    /// # Errors
    /// Weights that are not there or that hold no known network; features that are not finite; [`Error::Stopped`].
    pub(crate) fn find(
        config: &PretrainConfig,
        splits: &Splits,
        compute: &Compute,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>> {
        if !config.is_taught() {
            return Ok(None);
        }
        let Some(source) = config.teacher_source() else {
            return Err(Error::config(
                "teacher.source",
                "addons has distil, which needs a teacher: a file, a folder, hf:owner/name, or start",
            ));
        };
        let weights = open_weights(source, observer)?;
        let size = config.teacher.size.map(|size| format!("data.size={size}"));
        let settings = Vec::from_iter(size);
        let (embedder, report) = Embedder::from_weights_with(&weights, &settings, &[], compute)?;
        observer.on_message(&format!("teacher: {report}"));
        let train = [(TRAIN, &splits.train)];
        let mut table = embed_parts(&embedder, &config.source, &train, observer)?;
        // No batch has an image that cannot be read; a row of its own tells it from photos that come later.
        let seen: HashSet<String> = table.paths.iter().cloned().collect();
        for id in (0..splits.train.len()).map(|image| splits.train.id(image)) {
            if !seen.contains(&id) {
                table.features.extend(vec![0.; table.width]);
                table.paths.push(id);
                table.splits.push(TRAIN);
                table.labels.push(-1);
            }
        }
        Ok(Some(Self {
            table,
            origin: embedder.origin().to_owned(),
        }))
    }

    /// The features that an earlier part of the run wrote.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(crate) fn read(run: &RunFolder, config: &PretrainConfig) -> Result<Option<Self>> {
        if !config.is_taught() {
            return Ok(None);
        }
        Ok(Some(Self {
            table: EmbeddingTable::read(&run.join(NAME))?,
            origin: config.teacher.source.clone(),
        }))
    }

    /// Writes the features into the run folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn keep(&self, run: &RunFolder) -> Result<()> {
        self.table.write(&run.join(NAME), false)
    }

    /// (M, C), a row for each image of `train`; zeros of images that could not be read, which no batch has.
    ///
    /// # Errors
    /// A training image that the teacher has not seen.
    pub(crate) fn rows(&self, train: &dyn Dataset) -> Result<Tensor> {
        let width = self.table.width;
        let at: HashMap<&str, usize> = (self.table.paths.iter().map(String::as_str))
            .zip(0..)
            .collect();
        let mut rows = vec![0.; train.len() * width];
        let mut lacking = Vec::new();
        for (image, row) in rows.chunks_exact_mut(width).enumerate() {
            let id = train.id(image);
            match at.get(id.as_str()) {
                Some(at) => row.copy_from_slice(&self.table.features[at * width..][..width]),
                None => lacking.push(id),
            }
        }
        match lacking.first() {
            Some(first) => Err(Error::config(
                "teacher",
                format!(
                    "has not seen {} of the training images, such as {first}; start a new run with them",
                    lacking.len()
                ),
            )),
            None => Ok(Tensor::from_vec(rows, (train.len(), width), &Device::Cpu)?),
        }
    }

    /// What was found, in a line.
    pub(crate) fn line(&self) -> String {
        let (images, width) = (self.table.paths.len(), self.table.width);
        let adapted = match &self.table.adaptation {
            Some(adaptation) => format!(", adapted ({adaptation})"),
            None => String::new(),
        };
        format!(
            "teacher: {width} features of {images} training images by {}{adapted}",
            self.origin
        )
    }
}

/// Rows of a teacher that stands in for the real one where only time and memory matter.
///
/// # Errors
/// An encoder that does not fit together.
pub(crate) fn stand_in(config: &PretrainConfig, images: usize) -> Result<Option<Tensor>> {
    if !config.is_taught() {
        return Ok(None);
    }
    let shape = (images, config.encoder.out_channels()?);
    Ok(Some(Tensor::ones(
        shape,
        candle_core::DType::F32,
        &Device::Cpu,
    )?))
}
