//! What a step says of itself: terms of the loss, figures, pictures.

use candle_core::{Result, Tensor, bail};

use crate::{Pass, Rows};

/// The name of the base's own term.
pub(super) const BASE: &str = "loss_base";

/// A term of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Its name in records.
    pub name: &'static str,
    /// What it is multiplied by in the total.
    pub weight: f64,
    /// Its value.
    pub loss: f64,
}

impl Term {
    /// A term by its parts.
    #[must_use]
    pub fn new(name: &'static str, weight: f64, loss: f64) -> Self {
        Self { name, weight, loss }
    }
}

/// The losses of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// L_C of the base, `loss_base`, and the terms of the add-ons in the order in which they were found.
    pub terms: Vec<Term>,
    /// The sum of the terms by their weights.
    pub total: f64,
}

impl Losses {
    /// The loss of the term called `name`, where there was one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        let term = self.terms.iter().find(|term| term.name == name);
        term.map(|term| term.loss)
    }

    /// L_C.
    #[must_use]
    pub fn base(&self) -> f64 {
        self.get(BASE).unwrap_or_default()
    }
}

/// What pictures of a step are made from: tensors of the batch, without a way back; those of the
/// first query branch where a base has two.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// The images that the queries were made of (N, 3, H, W), normalised.
    pub x: Tensor,
    /// The last feature map (N, C, h, w).
    pub map: Tensor,
    /// ∂L_C/∂h at its pooled features (N, C); the map's own gradient is this over h*w at each place.
    pub gradient: Tensor,
    /// Where add-ons look (N, h, w), each under its name; values of at least 0.
    pub maps: Vec<(&'static str, Tensor)>,
    /// Which channels add-ons chose (N, C), each under its name.
    pub masks: Vec<(&'static str, Tensor)>,
    /// Images that add-ons made (N, 3, H, W), normalised, each under its name.
    pub images: Vec<(&'static str, Tensor)>,
    /// Sheets of those images, each under its name.
    pub sheets: Vec<(&'static str, &'static [Column])>,
}

/// A column of a sheet of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub caption: &'static str,
    /// What it shows.
    pub shows: Shows,
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The first view.
    View,
    /// The images of this name in [`Pictures::images`].
    Images(&'static str),
    /// Twice the difference of these two, around grey.
    Difference([&'static str; 2]),
}

impl Pictures {
    /// The images called `name`, where an add-on made them.
    #[must_use]
    pub fn images(&self, name: &str) -> Option<&Tensor> {
        let mut images = self.images.iter();
        Some(&images.find(|(known, _)| *known == name)?.1)
    }

    /// The mask called `name`, where an add-on chose channels.
    #[must_use]
    pub fn mask(&self, name: &str) -> Option<&Tensor> {
        let mut masks = self.masks.iter();
        Some(&masks.find(|(known, _)| *known == name)?.1)
    }
}

/// What a step says of itself, while it is put together.
pub struct Report {
    /// Whether L_C, its gradient and the features are finite, once that is known: in [`crate::Addon::report`].
    pub finite: bool,
    /// The terms of the loss. The base's comes first, once the others are at hand.
    pub terms: Vec<Term>,
    /// Figures of add-ons to log, by name.
    pub figures: Vec<(&'static str, f64)>,
    /// Only when asked for.
    pub pictures: Option<Pictures>,
}

impl Report {
    /// Adds a term.
    pub fn add(&mut self, term: Term) {
        self.terms.push(term);
    }

    /// The report of a pass whose numbers are not known yet.
    pub(super) fn of(pass: &Pass, gradient: &[Rows], pictures: bool) -> Result<Self> {
        let (Some(branch), Some(gradient)) = (pass.branches.first(), gradient.first()) else {
            bail!("step: the base's pass has no query branch");
        };
        let pictures = match pictures {
            true => Some(Pictures {
                x: branch.images.to_host()?,
                map: branch.map().to_host()?,
                gradient: gradient.to_host()?,
                maps: Vec::new(),
                masks: Vec::new(),
                images: Vec::new(),
                sheets: Vec::new(),
            }),
            false => None,
        };
        Ok(Self {
            finite: false,
            terms: Vec::new(),
            figures: Vec::new(),
            pictures,
        })
    }
}
