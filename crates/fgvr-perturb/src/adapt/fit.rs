//! From covariances to the transformation.

use super::adaptation::{Adaptation, Fitted};
use super::cholesky::{cholesky, inverse_of_lower};
use super::covariance::{Spectrum, between, in_random_basis, of_trace_one, spectrum};
use super::nuisance::at_least_two;
use super::symmetric_sum::{BLOCK, SymmetricSum};
use super::vectors::{add_scaled, dot, trace};
use super::{
    AdaptConfig, AdaptError, AdaptKind, NuisanceCovariance, check, mutual_neighbours,
    neighbour_covariance,
};

impl Adaptation {
    /// The transformation y = W (f - μ) that divides out the covariance `cfg.kind` asks for.
    ///
    /// M is the sum of Σ_w / tr Σ_w and λ Σ_n / tr Σ_n, or the covariance of a control, and A = M + r tr M / C I.
    /// W is a multiple of L^-1 with A = L L^T (Cholesky), lower triangular, such that the outputs of the plain features
    /// have a mean square of 1 over images and channels. Features that are compared by cosine do not tell
    /// square roots of A^-1 apart, since one is a rotation of the other.
    ///
    /// `features` (N, C) are the plain features that `statistics` has seen, all of them in any order; only kinds that
    /// search neighbours look at them ([`AdaptKind::needs_features`]). Σ_n is taken from pairs that are mutual
    /// neighbours after whitening by Σ_w alone.
    ///
    /// A Σ_w with fewer directions than channels is no error, as the ridge holds the others: [`Fitted::rank`] and
    /// [`Fitted::effective_rank`] of the result tell, and [`Adaptation::rank_deficient`].
    ///
    /// # Errors
    /// Settings out of range; fewer than two images, plain or with views; images or views that are all equal; features
    /// that are missing, not finite, or of another number than `statistics` has seen; a singular A.
    pub fn fit(
        statistics: &NuisanceCovariance,
        features: Option<&[f32]>,
        cfg: &AdaptConfig,
    ) -> Result<Self, AdaptError> {
        Fitter::new(statistics, features).fit(cfg)
    }
}

/// Fits several adaptations to the same features, such as one and its controls: what they share, the spectrum of Σ_w and the
/// search for neighbours, is computed once. Each is the one that [`Adaptation::fit`] gives.
#[derive(Debug)]
pub struct Fitter<'a> {
    statistics: &'a NuisanceCovariance,
    features: Option<&'a [f32]>,
    source: Option<Source>,
    spectrum: Option<Spectrum>,
    neighbours: Option<Neighbours>,
}

impl<'a> Fitter<'a> {
    /// To fit to what `statistics` has seen; `features` as in [`Adaptation::fit`].
    #[must_use]
    pub fn new(statistics: &'a NuisanceCovariance, features: Option<&'a [f32]>) -> Self {
        Self {
            statistics,
            features,
            source: None,
            spectrum: None,
            neighbours: None,
        }
    }

    /// The adaptation with the settings `cfg`.
    ///
    /// # Errors
    /// Settings out of range; fewer than two images, plain or with views; images or views that are all equal;
    /// features that are missing, not finite, or of another number than `statistics` has seen; a singular A.
    pub fn fit(&mut self, cfg: &AdaptConfig) -> Result<Adaptation, AdaptError> {
        cfg.validate()?;
        let mut source = match self.source.take() {
            Some(source) => source,
            None => Source::new(self.statistics)?,
        };
        if cfg.kind.needs_views() {
            source.look_at_views(self.statistics)?;
        }
        let fitted = self.fit_to(&source, cfg);
        self.source = Some(source);
        fitted
    }

    fn fit_to(&mut self, source: &Source, cfg: &AdaptConfig) -> Result<Adaptation, AdaptError> {
        let (width, within) = (source.width, source.within());
        let neighbours = match cfg.kind.needs_features() {
            true => Some(self.neighbours(source, cfg)?),
            false => None,
        };
        let pairs = neighbours.as_ref().map(|(pairs, _)| *pairs);
        let of_neighbours = neighbours.map(|(_, covariance)| covariance);
        let covariance = match cfg.kind {
            AdaptKind::Centred => None,
            AdaptKind::Total => Some(source.total.clone()),
            AdaptKind::Nuisance => Some(within.to_vec()),
            AdaptKind::Neighbours => of_neighbours,
            AdaptKind::RandomBasis => Some(in_random_basis(within, width, cfg.seed)?),
            AdaptKind::Between => {
                let between = between(&source.total, within, width)?;
                let what = || {
                    "the views of an image vary more than the images in all directions".to_owned()
                };
                source.varies(
                    &between,
                    what,
                    "images that differ by more than their views",
                )?;
                Some(between)
            }
            AdaptKind::NuisanceNeighbours => {
                let mut sum = of_trace_one(within.to_vec(), width);
                let of_neighbours = of_neighbours.unwrap_or_default();
                add_scaled(&mut sum, cfg.neighbour_weight, &of_neighbours);
                Some(sum)
            }
        };
        let mut adaptation = source.adaptation(covariance, cfg)?;
        adaptation.fitted.pairs = pairs;
        if cfg.kind.needs_views() {
            let found = match self.spectrum.take() {
                Some(found) => found,
                None => spectrum(within, width)?,
            };
            adaptation.fitted.rank = Some(found.rank);
            adaptation.fitted.effective_rank = Some(found.effective_rank);
            self.spectrum = Some(found);
        }
        Ok(adaptation)
    }

    /// The number of pairs of mutual neighbours, and their covariance of trace 1.
    fn neighbours(
        &mut self,
        source: &Source,
        cfg: &AdaptConfig,
    ) -> Result<(usize, Vec<f64>), AdaptError> {
        let features = checked(self.statistics, self.features, cfg.kind)?;
        let known = self.neighbours.take();
        let same = |known: &Neighbours| known.k == cfg.neighbours && known.ridge == cfg.ridge;
        let found = match known.filter(same) {
            Some(known) => known,
            None => source.neighbours(features, cfg)?,
        };
        let given = (found.pairs, found.covariance.clone());
        self.neighbours = Some(found);
        Ok(given)
    }
}

/// What was found of mutual neighbours, and the settings that it depends on.
#[derive(Debug)]
struct Neighbours {
    k: usize,
    ridge: f64,
    pairs: usize,
    /// (C, C), of trace 1
    covariance: Vec<f64>,
}

/// The plain features, one row for each image that `statistics` has seen plainly.
fn checked<'a>(
    statistics: &NuisanceCovariance,
    features: Option<&'a [f32]>,
    kind: AdaptKind,
) -> Result<&'a [f32], AdaptError> {
    let width = statistics.width();
    let kind = kind.name();
    let features = features.ok_or(AdaptError::Features { kind })?;
    let n = check::finite_rows("fit", "features", features, width)?;
    let images = statistics.plain_images();
    if n != images {
        return Err(AdaptError::Length {
            op: "fit",
            name: "features",
            found: features.len(),
            expected: format!("{images} images x {width} channels, as were added"),
        });
    }
    Ok(features)
}

/// What an adaptation is fitted to.
#[derive(Debug)]
struct Source {
    width: usize,
    mean: Vec<f64>,
    total: Vec<f64>,
    /// Σ_w, where the kind needs it.
    within: Option<Vec<f64>>,
    images: usize,
    view_images: usize,
    views: usize,
}

impl Source {
    fn new(statistics: &NuisanceCovariance) -> Result<Self, AdaptError> {
        let images = statistics.plain_images();
        at_least_two("fit", "plain features", images)?;
        let (mean, total) = statistics.mean_and_total()?;
        let source = Self {
            width: statistics.width(),
            mean,
            total,
            within: None,
            images,
            view_images: 0,
            views: 0,
        };
        let what = || format!("the plain features of all {images} images are equal");
        source.varies(&source.total, what, "images that differ")?;
        Ok(source)
    }

    /// Takes up Σ_w, unless it is here already.
    fn look_at_views(&mut self, statistics: &NuisanceCovariance) -> Result<(), AdaptError> {
        if self.within.is_some() {
            return Ok(());
        }
        let images = statistics.images();
        at_least_two("fit", "augmented views", images)?;
        let within = statistics.within()?;
        let what = || format!("the views of each of {images} images are equal");
        self.varies(&within, what, "views that are augmented at random")?;
        self.within = Some(within);
        (self.view_images, self.views) = (images, statistics.views());
        Ok(())
    }

    /// The covariance of mutual neighbours among `features` (N, C), found after whitening by Σ_w.
    fn neighbours(&self, features: &[f32], cfg: &AdaptConfig) -> Result<Neighbours, AdaptError> {
        let width = self.width;
        let whitening = self.adaptation(
            Some(self.within().to_vec()),
            &AdaptConfig {
                kind: AdaptKind::Nuisance,
                ..cfg.clone()
            },
        )?;
        let found = mutual_neighbours(&whitening.apply(features)?, width, cfg.neighbours)?;
        let covariance = neighbour_covariance(features, width, &found)?;
        let what = || {
            format!(
                "all {} pairs of neighbours have equal features",
                found.len()
            )
        };
        self.varies(
            &covariance,
            what,
            "photos that are not copies of each other",
        )?;
        Ok(Neighbours {
            k: cfg.neighbours,
            ridge: cfg.ridge,
            pairs: found.len(),
            covariance: of_trace_one(covariance, width),
        })
    }

    /// Σ_w; empty for kinds that do not look at it.
    fn within(&self) -> &[f64] {
        self.within.as_deref().unwrap_or_default()
    }

    /// An error where a covariance is no more than the rounding of f32 features about μ.
    fn varies(
        &self,
        covariance: &[f64],
        what: impl Fn() -> String,
        expected: &'static str,
    ) -> Result<(), AdaptError> {
        let rounding = f64::from(f32::EPSILON).powi(2) * dot(&self.mean, &self.mean);
        if trace(covariance, self.width) > rounding {
            return Ok(());
        }
        Err(AdaptError::NoVariance {
            op: "fit",
            what: what(),
            expected,
        })
    }

    /// Divides out `covariance`, or nothing, with the ridge of `cfg`.
    fn adaptation(
        &self,
        covariance: Option<Vec<f64>>,
        cfg: &AdaptConfig,
    ) -> Result<Adaptation, AdaptError> {
        let width = self.width;
        let mut weight = match covariance {
            Some(covariance) => {
                let mut matrix = of_trace_one(covariance, width);
                // tr M is 1.
                let ridge = cfg.ridge / width as f64;
                matrix
                    .iter_mut()
                    .step_by(width + 1)
                    .for_each(|v| *v += ridge);
                cholesky(&mut matrix, width).map_err(|channel| AdaptError::NotPositive {
                    channel,
                    ridge: cfg.ridge,
                })?;
                inverse_of_lower(&matrix, width)
            }
            None => {
                let mut identity = vec![0.; width * width];
                identity.iter_mut().step_by(width + 1).for_each(|v| *v = 1.);
                identity
            }
        };
        let scale = self.mean_square(&weight)?.sqrt().recip();
        weight.iter_mut().for_each(|value| *value *= scale);
        let seen = usize::from(cfg.kind.needs_views());
        let fitted = Fitted {
            images: self.images,
            view_images: seen * self.view_images,
            views: seen * self.views,
            ..Fitted::default()
        };
        Adaptation::rounded(&weight, &self.mean, cfg, fitted)
    }

    /// The mean over images and channels of the squares of W (f - μ): tr(W S W^T) / C, which is the sum over entries of
    /// S times W^T W, with S the covariance that divides by the number of images.
    fn mean_square(&self, weight: &[f64]) -> Result<f64, AdaptError> {
        let mut gram = SymmetricSum::new(self.width);
        for rows in weight.chunks(BLOCK * self.width) {
            gram.add(rows)?;
        }
        let n = self.images as f64;
        let biased = (n - 1.) / n;
        Ok(dot(&gram.dense(biased), &self.total) / self.width as f64)
    }
}
