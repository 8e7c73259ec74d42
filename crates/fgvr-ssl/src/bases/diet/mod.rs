//! DIET: each image of the training set is a class of its own.

mod classes;
mod config;
mod objective;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use self::classes::Classes;
use self::objective::classified;
use crate::bases::Parts;
use crate::bases::base::gradient_at;
use crate::bases::kind::NO_VIEW_TARGETS;
use crate::step::state::{check, counters, of_stores, take, trainable, under, words};
use crate::{
    Base, BaseKind, Between, Branch, Found, InfoNce, MethodConfig, Network, Pass, Rows, Values,
    Views, l2_normalise,
};

pub use self::config::DietConfig;
pub use self::objective::smoothed_cross_entropy;

/// DIET (arXiv:2302.10260) as a [`Base`]: the index of an image is its label. W (M, C) is a linear classifier without
/// bias, M the images of the training set; with features h_v of view v of image i
///
/// L = ½ CE(W h_1, i) + ½ CE(W h_2, i),
///
/// CE with label smoothing ([`smoothed_cross_entropy`]). There is no projector, no target network and no negative.
/// Figures: top-1 of the images' own classes, the similarity of features to their own class and to the others, means of
/// both views.
///
/// # Cost
/// Similarities are (N, M), W (M, C), and an optimiser keeps one or two arrays like W. For M = 100,000 images, a batch of 64
/// and C = 384 that is 26 MB for each array of similarities, of which a step holds about ten, and 154 MB for each like W.
/// That is fine on a CPU; for millions of images another base is cheaper. On a GPU the trunk runs there, and the
/// classifier on the CPU.
///
/// # Differs
/// The paper has one view of an image a step. The loader makes two, so both are classified, and a step costs twice as much.
///
/// # Design choice
/// A second view of another image, as neighbours as positives have it, is an example of the class of the *first* view's
/// image: the class of an image then stands for its neighbours too. Generated pairs, and pairs of features, are classified
/// by the same W as their image, half a loss each; the gradient reaches W. There is no view that another one is compared
/// with, so that add-ons that put other images there do not run on DIET.
///
/// We had neither the paper's table of settings nor its code at hand, so no recipe is given as the published one.
pub struct Diet<E> {
    cfg: DietConfig,
    network: Network<E>,
    classes: Classes,
    head_parameters: Parameters,
    step: u64,
    /// Whether a real pass is waiting for [`Base::after_step`].
    pending: bool,
}

impl<E: Encoder> Diet<E> {
    /// DIET over one encoder of `parts`, for as many images as `cfg` says.
    ///
    /// # Errors
    /// A configuration out of range, fewer than two images, and what `parts` returns.
    pub fn new(cfg: &DietConfig, parts: Parts<'_, E>) -> Result<Self> {
        cfg.validate()?;
        if cfg.images < 2 || u32::try_from(cfg.images).is_err() {
            bail!(
                "diet: a training set of {} images, expected 2 to 2^32 - 1: each is a class",
                cfg.images
            );
        }
        parts.run.validate()?;
        let network = (parts.network)()?;
        let head_parameters = Parameters::new(parts.seed);
        let width = network.encoder.width();
        let classes = Classes::new(cfg.images, width, cfg.seed, &head_parameters)?;
        Ok(Self {
            cfg: cfg.clone(),
            network,
            classes,
            head_parameters,
            step: 0,
            pending: false,
        })
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network<E> {
        &self.network
    }

    /// How well features (N, C) of `images` find their classes, and the loss.
    fn classify(&self, pooled: &Tensor, images: &[u32]) -> Result<InfoNce> {
        let cfg = &self.cfg;
        let similarity = self.classes.similarity(pooled, cfg.cosine)?;
        classified(&similarity, images, cfg.label_smoothing, cfg.temperature)
    }

    /// Half of the loss of each of two.
    fn of_both(&self, pooled: [&Tensor; 2], images: &[u32]) -> Result<Found> {
        let [first, second] = pooled;
        let sum = (self.classify(first, images)?).plus(self.classify(second, images)?)?;
        let loss = (&sum.loss * 0.5)?;
        Ok(Found::Host(InfoNce { loss, ..sum }))
    }

    fn pass(&self, views: [&Values; 2], images: &[u32], norm: NormMode) -> Result<Pass> {
        let branch = |view: usize| Branch::forward(&self.network.encoder, views[view], norm, view);
        let branches = [branch(0)?, branch(1)?];
        let [first, second] = [&branches[0].leaves()?.pooled, &branches[1].leaves()?.pooled];
        let found = self.of_both([first, second], images)?;
        let (query, keys) = (
            l2_normalise(&first.detach())?,
            l2_normalise(&second.detach())?,
        );
        let key_pooled = Rows::Host(second.detach());
        Ok(Pass {
            found,
            query: Rows::Host(query),
            keys: Rows::Host(keys),
            key_pooled,
            key_map: None,
            branches: branches.into(),
        })
    }

    /// The stores of variables and their prefixes.
    fn stores(&self) -> [(&'static str, &Parameters); 2] {
        [
            ("encoder", &self.network.parameters),
            ("head", &self.head_parameters),
        ]
    }
}

impl<E: Encoder + Send> Base for Diet<E> {
    fn kind(&self) -> BaseKind {
        BaseKind::DIET
    }

    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass> {
        let [first, second] = views.only_global("diet", None)?;
        let pass = self.pass([&first, &second], images, NormMode::Train)?;
        self.pending = true;
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Values; 2], images: &[u32]) -> Result<Pass> {
        let [query, key] = pair.map(|images| images.placed(None));
        self.pass([&query?, &key?], images, NormMode::NoUpdate)
    }

    fn between(&self, query: &Values, key: &Values, images: &[u32]) -> Result<Between> {
        let (Values::Host(query), Values::Host(key)) = (query, key) else {
            bail!("diet: features on a device, expected them on the host, where its classes are");
        };
        Ok(Between {
            found: self.of_both([query, key], images)?,
            keys: Rows::Host(l2_normalise(&key.detach())?),
        })
    }

    fn against(&self, _: &Pass, _: [&Tensor; 2], _: &[u32]) -> Result<Found> {
        bail!("diet compares no view with another: {NO_VIEW_TARGETS}")
    }

    fn after_step(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.pending) {
            bail!("after_step: no pass on real views since the last one");
        }
        self.step += 1;
        Ok(())
    }

    fn forget_step(&mut self) {
        self.pending = false;
    }

    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        _: &Tensor,
        indices: &[u32],
    ) -> Result<(Features, Tensor)> {
        let features = self.network.encoder.features(images, NormMode::Eval)?;
        let gradient = gradient_at(&features.pooled, |pooled| {
            Ok(self.classify(pooled, indices)?.loss)
        })?;
        Ok((features, gradient))
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.network.encoder
    }

    fn target_encoder(&self) -> Option<&dyn Encoder> {
        None
    }

    fn encoder_parameters(&self) -> &Parameters {
        &self.network.parameters
    }

    fn trainable(&self) -> BTreeMap<String, Var> {
        trainable(&self.stores())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        of_stores(&self.stores(), [("step", words(&[self.step])?)])
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        check(&self.state()?, state)?;
        let step = counters(take(state, "step", &[1])?)?[0];
        for (prefix, store) in self.stores() {
            store.set_all(&under(state, prefix))?;
        }
        self.step = step;
        self.forget_step();
        Ok(())
    }
}
