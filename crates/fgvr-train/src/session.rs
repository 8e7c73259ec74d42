//! The steps of a run from where it stands to its report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use fgvr_data::{Batch, Found, Splits, shown, write_quarantine};
use fgvr_encoder::FrozenBackbone;
use fgvr_ssl::Pictures;
use serde::Serialize;

use crate::checkpoint::{self, Manifest};
use crate::config::PretrainConfig;
use crate::data::lacking_classes;
use crate::embed::{all, embed};
use crate::environment::simd;
use crate::epoch::EpochMeans;
use crate::evaluate::{Evaluation, Networks, evaluate};
use crate::export::export;
use crate::fitting;
use crate::loader::loader;
use crate::monitor::{Monitor, Vitals};
use crate::pair_gate;
use crate::parts::MapSources;
use crate::path_text::path_text;
use crate::pictures::sheets;
use crate::positives::Positives;
use crate::run_report::write_report;
use crate::start::encoder_before;
use crate::view::Sight;
use crate::{
    Compute, DataRecord, Environment, Error, Feed, Observer, Result, RunFolder, StepRow, Trainer,
    evaluation_tables,
};
use fgvr_report::record::Recorder;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run folder.
    #[serde(serialize_with = "crate::path_text::serialize")]
    pub run: PathBuf,
    /// Optimiser steps done, of how many.
    pub steps: [u64; 2],
    /// Whether a signal ended the run before its last step; its state is saved.
    pub interrupted: bool,
    /// Seconds of training in this process.
    pub seconds: f64,
    /// The last step's figures.
    pub last: Option<StepRow>,
    /// The evaluation; absent if interrupted.
    pub evaluation: Option<Evaluation>,
    /// What was found where the data was opened.
    pub data: Found,
}

/// What a run remembers of how it was asked for.
pub(crate) struct Origin {
    /// The settings as `config.toml` has them: without the places where data and weights were found this time.
    pub(crate) settings: PretrainConfig,
    /// What it is trained on from here.
    pub(crate) data: DataRecord,
    /// The path from the root of weights in a file or folder that the run started from.
    pub(crate) weights: Option<String>,
}

/// A run that is under way in this process.
pub(crate) struct Session<'a> {
    config: PretrainConfig,
    run: &'a RunFolder,
    splits: Splits,
    trainer: Trainer,
    compute: Compute,
    origin: Origin,
    /// Images that second views are of, where not of the image itself.
    pub(crate) positives: Option<Positives>,
    pub(crate) best_val: Option<f64>,
    /// The step of the newest checkpoint.
    pub(crate) saved: Option<u64>,
    /// Whether evaluation, export and report follow the last step.
    pub(crate) is_judged: bool,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        config: &PretrainConfig,
        run: &'a RunFolder,
        splits: Splits,
        trainer: Trainer,
        compute: &Compute,
        origin: Origin,
    ) -> Result<Self> {
        let mut environment = Environment::here(compute.name());
        environment.data = Some(origin.data.clone());
        let environment = serde_json::to_vec_pretty(&environment)
            .map_err(|e| Error::run(run.path(), e.to_string()))?;
        run.write("env.json", &environment)?;
        Ok(Self {
            config: config.clone(),
            run,
            splits,
            trainer,
            compute: compute.clone(),
            origin,
            positives: None,
            best_val: None,
            saved: None,
            is_judged: true,
        })
    }

    /// A line for a person to read now, and for the log.
    pub(crate) fn say(&self, observer: &mut dyn Observer, line: &str) -> Result<()> {
        observer.on_message(line);
        self.run.log(line)
    }

    /// Trains to the last step or a signal, then evaluates and reports. An error says what to do about it, where that
    /// is known.
    pub(crate) fn run(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        match self.train(observer) {
            Ok(summary) => Ok(summary),
            Err(error) => Err(self.explained(error)),
        }
    }

    fn train(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let started = Instant::now();
        let (first, total) = (self.trainer.step_count(), self.trainer.total_steps());
        observer.on_start(Some(self.run.path()), first, total);
        self.log_start(observer)?;
        let mut recorder = Recorder::resume(self.run.path(), first)?;
        let mut monitor = Monitor::new(&self.config.monitor);
        // Trunks whose heads run on the CPU take their views from there.
        let ahead = self.trainer.step_device();
        let mut feed = Feed::new(
            loader(&self.config, &self.splits, self.positives.as_ref(), first)?,
            ahead.as_ref(),
        )?;
        let mut means = EpochMeans::default();
        let mut last = None;
        let mut interrupted = false;
        while self.trainer.step_count() < total {
            if observer.should_stop() {
                interrupted = true;
                break;
            }
            let (row, ended) = self.step(&mut feed, &mut recorder, observer)?;
            observer.on_step(&row);
            recorder.row(&row.to_map()?)?;
            means.push(&row);
            if ended || row.step == total {
                self.say(observer, &means.line())?;
                means = EpochMeans::default();
            }
            self.watch(&mut monitor, &row, &mut recorder, observer)?;
            let is_best = row
                .val_knn
                .is_some_and(|v| self.best_val.is_none_or(|best| v > best));
            if is_best {
                self.best_val = row.val_knn;
            }
            if is_best || row.step % self.config.checkpoint.every == 0 || row.step == total {
                self.save(&mut recorder, is_best)?;
            }
            last = Some(row);
        }
        drop(feed);
        let mut summary = Summary {
            run: self.run.path().to_owned(),
            steps: [self.trainer.step_count(), total],
            interrupted,
            seconds: started.elapsed().as_secs_f64(),
            last,
            evaluation: None,
            data: self.splits.found.clone(),
        };
        if interrupted {
            self.save(&mut recorder, false)?;
            let line = format!(
                "saved at step {} of {total}; go on with --resume {}",
                summary.steps[0],
                path_text(self.run.path())
            );
            self.say(observer, &line)?;
            return Ok(summary);
        }
        recorder.sync()?;
        if self.is_judged {
            summary.evaluation = Some(self.finish(observer)?);
        }
        Ok(summary)
    }

    fn explained(self, error: Error) -> Error {
        let Self {
            config,
            splits,
            trainer,
            compute,
            ..
        } = self;
        // What it holds of a device's memory would be missed when smaller batches are tried.
        drop(trainer);
        let device = compute.device();
        match device.and_then(|device| Some((device, device.take_exhausted()?))) {
            Some((device, short)) => fitting::explain(&config, &splits, &compute, device, short),
            None => error,
        }
    }

    /// What a reader of the log needs to know of what follows.
    fn log_start(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let on_device = self.trainer.step_device().is_some();
        let addons = self.trainer.addons_on_host();
        let (config, images) = (&self.config, self.splits.train.len());
        let name = if config.name.is_empty() {
            "-"
        } else {
            &config.name
        };
        self.run.log(&format!(
            "fgvr {}: settings {name}, {}, seed {}, data {} ({images} training images), steps {} to {}, {} threads, {} kernels, {}",
            env!("CARGO_PKG_VERSION"),
            config.method(),
            config.seed,
            config.source,
            self.trainer.step_count() + 1,
            self.trainer.total_steps(),
            rayon::current_num_threads(),
            simd(),
            self.compute.line()
        ))?;
        if self.compute.device().is_some() {
            let names: Vec<_> = addons.iter().map(|kind| kind.name()).collect();
            let (what, rest) = match (on_device, names.join(", ")) {
                (false, _) => ("trunks run", "; heads and losses on the CPU".to_owned()),
                (true, names) if names.is_empty() => ("each step runs", names),
                (true, names) => ("each step runs", format!("; losses of {names} on the CPU")),
            };
            let line = format!("{what} on {}{rest}", self.compute.name());
            self.say(observer, &line)?;
        }
        if self.trainer.gate().is_some() {
            pair_gate::check(&self.splits)?;
        }
        let (images_a_batch, batches) = (config.loader.batch, config.optimizer.accumulate);
        let pairs = config.pairs();
        if let Some(why) = pairs.no_pair(images_a_batch, batches, self.trainer.total_steps()) {
            self.say(observer, &format!("warning: {why}"))?;
        }
        if let Some(positives) = &self.positives {
            let line = positives.line(self.splits.train.as_ref());
            self.say(observer, &line)?;
        }
        for line in config.fitted_base(images)?.1 {
            self.say(observer, &line)?;
        }
        Ok(())
    }

    /// One optimiser step, and at an epoch's end the online kNN and the pictures; whether the epoch
    /// ended.
    fn step(
        &mut self,
        feed: &mut Feed,
        recorder: &mut Recorder,
        observer: &mut dyn Observer,
    ) -> Result<(StepRow, bool)> {
        let started = Instant::now();
        let known = feed.quarantined().len();
        let fed = (0..self.config.optimizer.accumulate)
            .map(|_| feed.next())
            .collect::<Result<Vec<_>>>();
        // Also where the loader gives up: then the table says why.
        if feed.quarantined().len() > known {
            for bad in &feed.quarantined()[known..] {
                let line = format!("set aside: {} ({})", bad.path, bad.reason);
                self.say(observer, &shown(&line))?;
            }
            write_quarantine(feed.quarantined(), self.run.join("quarantine.csv"))?;
        }
        let fed = fed?.into_iter().map(|fed| (fed.batch, fed.staged));
        let (batches, staged): (Vec<Batch>, Vec<_>) = fed.unzip();
        let wait: Duration = batches.iter().map(|b| b.wait).sum();
        let epoch = batches.last().map_or(0, |b| b.epoch);
        let ended = batches.iter().any(|b| b.last_of_epoch);
        let is_last = self.trainer.step_count() + 1 == self.trainer.total_steps();
        let due = |every: u64| every > 0 && (is_last || ended && (epoch + 1).is_multiple_of(every));
        let with_pictures = due(self.config.monitor.pictures_every);
        let (mut row, pictures) = self.trainer.step_staged(&batches, staged, with_pictures)?;
        row.epoch = epoch;
        row.data_wait = wait.as_secs_f64();
        let images: usize = batches.iter().map(|b| b.indices.len()).sum();
        row.images_per_second = images as f64 / started.elapsed().as_secs_f64();
        if let (Some(pictures), Some(shown)) = (pictures, batches.last()) {
            // A picture is worth no run.
            if let Err(problem) = self.draw(recorder, &row, &pictures, &shown.views) {
                let line = format!("warning: step {}: no pictures: {problem}", row.step);
                self.say(observer, &line)?;
            }
        }
        if due(self.config.monitor.knn_every) {
            match self.validate() {
                Ok(knn) => row.val_knn = knn,
                Err(problem @ (Error::Evaluation(_) | Error::NotFinite { .. })) => {
                    let line = format!("warning: step {}: no validation: {problem}", row.step);
                    self.say(observer, &line)?;
                }
                Err(problem) => return Err(problem),
            }
        }
        self.open_gate(&mut row, observer)?;
        Ok((row, ended))
    }

    /// Measures a gate that is shut, where this step is one to do so after.
    fn open_gate(&mut self, row: &mut StepRow, observer: &mut dyn Observer) -> Result<()> {
        let Some((gate, decoder)) = self.trainer.gate() else {
            return Ok(());
        };
        if !row.step.is_multiple_of(gate.every) {
            return Ok(());
        }
        let encoder = self.trainer.freeze()?;
        let found = pair_gate::measure(&self.config, &encoder, decoder, gate.space, &self.splits);
        let found = match found {
            Ok(found) => found,
            Err(problem @ (Error::Evaluation(_) | Error::NotFinite { .. })) => {
                let line = format!("warning: step {}: gate not measured: {problem}", row.step);
                return self.say(observer, &line);
            }
            Err(problem) => return Err(problem),
        };
        if let Some(found) = found {
            row.add("synthpair_gate", found.share);
            let then = match self.trainer.measured(found.share) {
                true => "the pairs begin",
                false => "no pairs yet",
            };
            let line = format!("step {}: {}; {then}", row.step, found.line);
            self.say(observer, &line)?;
        }
        Ok(())
    }

    fn draw(
        &self,
        recorder: &mut Recorder,
        row: &StepRow,
        pictures: &Pictures,
        views: &[Tensor],
    ) -> Result<()> {
        let [first, second] = views else {
            return Err(Error::config("loader", "expected two views of each image"));
        };
        for (name, png) in sheets(
            [first, second],
            pictures,
            self.config.monitor.pictures,
            &self.config.normalisation,
            !self.config.encoder.architecture.is_vit(),
        )? {
            let file = format!("samples/epoch-{:04}-{name}.png", row.epoch);
            self.run.write(file, &png)?;
            recorder.image(name, row.step, &png)?;
        }
        Ok(())
    }

    /// Passes warnings on; on an alarm that stops the run, the state is saved first.
    fn watch(
        &mut self,
        monitor: &mut Monitor,
        row: &StepRow,
        recorder: &mut Recorder,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        match monitor.check(row.step, &vitals(row)) {
            Ok(warnings) => warnings.iter().try_for_each(|warning| {
                self.say(observer, &format!("warning: step {}: {warning}", row.step))
            }),
            Err(alarm) => {
                self.save(recorder, false)?;
                self.run.log(&format!("stopped: {alarm}"))?;
                Err(alarm)
            }
        }
    }

    /// What is judged: `encoder` is the trainer's, frozen.
    fn networks<'n>(&'n self, encoder: &'n FrozenBackbone) -> Result<Networks<'n>> {
        let (trainer, addons) = (&self.trainer, self.trainer.addons());
        Ok(Networks {
            encoder,
            screening: addons.iter().find_map(|addon| addon.screening()),
            decoder: addons.iter().find_map(|addon| addon.decoder()),
            maps: Some(MapSources {
                base: trainer.base(),
                bank: trainer.bank()?,
                addons,
            }),
        })
    }

    /// Evaluation, exported weights and report.
    fn finish(&self, observer: &mut dyn Observer) -> Result<Evaluation> {
        let encoder = self.trainer.freeze()?;
        let networks = (&self.networks(&encoder)?, &self.compute);
        let (evaluation, warnings) = evaluate(&self.config, networks, &self.splits, observer)?;
        for warning in &warnings {
            self.say(observer, warning)?;
        }
        let text = serde_json::to_vec_pretty(&evaluation)
            .map_err(|e| Error::run(self.run.path(), e.to_string()))?;
        self.run.write("eval.json", &text)?;
        let below = evaluation.against_start.as_ref().filter(|a| a.is_below());
        if let Some(below) = below {
            self.run.log(&format!("warning: {}", below.line()))?;
        }
        for (title, table) in evaluation_tables(&evaluation) {
            self.run.log(&format!("\n{title}\n\n{table}"))?;
        }
        // After the figures, which the model card shows.
        let trained = (self.trainer.encoder_parameters(), self.trainer.step_count());
        let start = match below {
            Some(_) => Some(encoder_before(&self.config, &Compute::cpu(), observer)?.1),
            None => None,
        };
        export(self.run, &self.config, trained, start.as_ref())?;
        write_report(self.run, &self.config, &evaluation)?;
        Ok(evaluation)
    }

    /// kNN from training images to the validation split.
    fn validate(&self) -> Result<Option<f64>> {
        let sight = Sight::of(&self.config);
        let (train, val) = (&self.splits.train, &self.splits.val);
        // Classes that nothing is trained on would count as wrong, whatever was learned.
        let has_labels = !val.is_empty() && val.label(0).is_some();
        if !has_labels || !lacking_classes(train, val).is_empty() {
            return Ok(None);
        }
        // Evenly spread over the split, so that no class is left out.
        let wanted = self.config.monitor.knn_images.clamp(1, train.len());
        let among: Vec<usize> = (0..wanted).map(|i| i * train.len() / wanted).collect();
        let encoder = self.trainer.freeze()?;
        let train = embed(&encoder, train, &among, &sight)?;
        let val = embed(&encoder, val, &all(val), &sight)?;
        let (Some(train), Some(val)) = (train, val) else {
            return Ok(None);
        };
        match (train.embeddings()?, val.embeddings()?) {
            (Some(train), Some(val)) => Ok(Some(
                fgvr_eval::knn(&train, &val, &self.config.evaluate.knn)?.top1,
            )),
            _ => Ok(None),
        }
    }

    fn save(&mut self, recorder: &mut Recorder, is_best: bool) -> Result<()> {
        let step = self.trainer.step_count();
        recorder.sync()?;
        if self.saved == Some(step) {
            return Ok(());
        }
        let manifest = Manifest {
            step,
            files: BTreeMap::new(),
            simd: simd(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            best_val: self.best_val,
            data: Some(self.origin.data.clone()),
            weights: self.origin.weights.clone(),
        };
        checkpoint::save(
            self.run,
            &self.trainer.state()?,
            manifest,
            is_best,
            &self.origin.settings,
        )?;
        self.saved = Some(step);
        Ok(())
    }
}

fn vitals(row: &StepRow) -> Vitals {
    Vitals {
        loss: row.loss,
        gradient_norm: row.gradient_norm,
        embedding_std: row.embedding_std,
        effective_rank: row.effective_rank,
        pair_top1: row.get("pair_top1"),
        pair_difference: row.get("pair_difference"),
    }
}
