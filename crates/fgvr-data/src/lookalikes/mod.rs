//! The built-in set `builtin:lookalikes`: drawn birds whose families differ in build and whose
//! species differ in one or two small parts.
//!
//! Every image is drawn when it is first loaded, and depends on nothing but the seed, the split and its
//! index. A set that fits a fixed share of memory keeps what it has drawn. What a species is does not depend on the seed: the same species in other poses, colours
//! and surroundings make another set. Colours and light say nothing about the class. Bytes are the
//! same wherever `sin`, `cos` and `exp` of the platform are.

mod background;
mod bird;
mod canvas;
mod colour;
mod draw;
mod nuisance;
mod parts;
mod plan;
mod shape;
mod species;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use crate::{Dataset, Error, Image, PartMask};
use bird::Family;
use canvas::Canvas;
use draw::Draw;
use nuisance::Nuisance;
use species::MOST_SPECIES;

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct LookalikesConfig {
    /// Body plans, at least 1. The first 8 are hand-drawn; more repeat them in other proportions. By
    /// default 6.
    pub families: usize,
    /// Species of each family, 1 to 64. Up to 4 differ in two forms of two parts; up to 16 in more
    /// forms; beyond that in three parts. By default 4.
    pub species_per_family: usize,
    /// Images of the training split. By default 4096.
    pub train_images: usize,
    /// Images of the validation split. By default 480.
    pub val_images: usize,
    /// Images of the test split. By default 960.
    pub test_images: usize,
    /// How much pose, light, surroundings and camera vary, 0 (not at all) to 1.5. By default 0.85.
    pub nuisance: f64,
    /// Draws another set of images of the same species. By default 0.
    pub seed: u64,
}

impl Default for LookalikesConfig {
    fn default() -> Self {
        Self {
            families: 6,
            species_per_family: 4,
            train_images: 4096,
            val_images: 480,
            test_images: 960,
            nuisance: 0.85, // calibrated: docs/lookalikes.md
            seed: 0,
        }
    }
}

/// Which images of a set: no two splits share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Split {
    /// To train on.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
}

impl Split {
    /// `train`, `val` or `test`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// A split of the built-in set.
///
/// Labels are `family * species_per_family + species`. Every run of as many images as there are
/// classes, counted from the first, has each class once, in an order of its own.
pub struct Lookalikes {
    families: Vec<Family>,
    species: usize,
    classes: Vec<String>,
    len: usize,
    size: usize,
    split: Split,
    nuisance: f32,
    seed: u64,
    /// What has been drawn, by index; empty for a set too large to keep.
    drawn: Vec<OnceLock<Image>>,
}

/// Bytes of drawn images that a set keeps, at most: an epoch of a small set draws nothing twice.
const KEPT: usize = 128 << 20;

/// What a key's last word is for.
const ORDER: u64 = 0;
const SCENE: u64 = 1;
const NOISE: u64 = 2;

impl Lookalikes {
    /// The images of `split`, `size` pixels a side.
    ///
    /// # Errors
    ///
    /// A setting outside its range; a size outside 8 to 4096.
    pub fn new(cfg: &LookalikesConfig, size: usize, split: Split) -> Result<Self, Error> {
        let check = |fine: bool, setting: &'static str, found: String, expected: &str| {
            if fine {
                Ok(())
            } else {
                let expected = expected.to_owned();
                Err(Error::Setting {
                    setting,
                    found,
                    expected,
                })
            }
        };
        let (families, species) = (cfg.families, cfg.species_per_family);
        check(
            (1..=MOST_FAMILIES).contains(&families),
            "families",
            families.to_string(),
            "1 to 4096",
        )?;
        check(
            (1..=MOST_SPECIES).contains(&species),
            "species_per_family",
            species.to_string(),
            "1 to 64",
        )?;
        check(
            (0. ..=1.5).contains(&cfg.nuisance),
            "nuisance",
            cfg.nuisance.to_string(),
            "0 to 1.5",
        )?;
        check(
            (8..=4096).contains(&size),
            "size",
            size.to_string(),
            "8 to 4096",
        )?;
        let len = match split {
            Split::Train => cfg.train_images,
            Split::Val => cfg.val_images,
            Split::Test => cfg.test_images,
        };
        let families: Vec<Family> = (0..families)
            .map(|f| Family::new(plan::plan(f), species))
            .collect();
        let classes = families
            .iter()
            .enumerate()
            .flat_map(|(f, family)| (0..species).map(move |s| class_name(f, family, s)))
            .collect();
        Ok(Self {
            families,
            species,
            classes,
            len,
            size,
            split,
            nuisance: cfg.nuisance as f32,
            seed: cfg.seed,
            drawn: match len.checked_mul(3 * size * size) {
                Some(bytes) if bytes <= KEPT => (0..len).map(|_| OnceLock::new()).collect(),
                _ => Vec::new(),
            },
        })
    }

    fn draw(&self, index: usize) -> Image {
        let scene = self.scene(index);
        self.expose(&self.canvas(self.class(index), &scene), &scene)
    }

    /// The first key word of a stream: splits apart, seeds apart.
    fn key(&self, index: u64, purpose: u64) -> [u64; 4] {
        [self.seed, self.split as u64, index, purpose]
    }

    fn check(&self, index: usize) -> Result<(), Error> {
        if index < self.len {
            return Ok(());
        }
        Err(Error::IndexOutOfRange {
            set: format!("lookalikes/{}", self.split.name()),
            index,
            len: self.len,
        })
    }

    /// The class at `index`: each run of all classes is shuffled by itself.
    fn class(&self, index: usize) -> usize {
        let classes = self.classes.len();
        let draw = &mut Draw::new(self.key((index / classes) as u64, ORDER));
        let mut order: Vec<usize> = (0..classes).collect();
        for i in (1..classes).rev() {
            order.swap(i, draw.below(i + 1));
        }
        order[index % classes]
    }

    fn scene(&self, index: usize) -> Nuisance {
        Nuisance::draw(self.key(index as u64, SCENE), self.nuisance)
    }

    /// Class `class` as `nuisance` has it, before the sensor.
    fn canvas(&self, class: usize, nuisance: &Nuisance) -> Canvas {
        let mut canvas = nuisance.background.canvas(self.size, nuisance.light);
        let family = &self.families[class / self.species];
        let bird = family.layers(class % self.species, nuisance);
        for layer in bird.iter().chain(&nuisance.occluders) {
            canvas.paint(layer, nuisance.light);
        }
        canvas.blur(nuisance.blur * self.size as f32);
        canvas
    }

    /// Light, noise, and whole bytes.
    fn expose(&self, canvas: &Canvas, nuisance: &Nuisance) -> Image {
        let size = canvas.size;
        let draw = &mut Draw::new(self.key(nuisance.noise_key, NOISE));
        let mut pixels = Vec::with_capacity(3 * size * size);
        for (i, colour) in canvas.pixels.iter().enumerate() {
            let [x, y] = [i % size, i / size].map(|k| (2 * k + 1) as f32 / size as f32 - 1.);
            let slope = x * nuisance.light[0] + y * nuisance.light[1];
            let light = nuisance.exposure * (1. + nuisance.unevenness * slope);
            for channel in colour {
                let value = channel * light + nuisance.noise * normal(draw.word());
                // the cast saturates
                pixels.push((value * 255. + 0.5) as u8);
            }
        }
        Image {
            width: size,
            height: size,
            pixels,
        }
    }
}

const MOST_FAMILIES: usize = 4096;

/// Nearly a standard normal value: the sum of four bytes, centred, over its deviation.
fn normal(word: u32) -> f32 {
    let sum: u32 = word.to_le_bytes().into_iter().map(u32::from).sum();
    // variance of a byte: (256^2 - 1) / 12
    (sum as f32 - 510.) / 147.8
}

fn class_name(index: usize, family: &Family, species: usize) -> String {
    let name = format!("{}-{}", plan::name(index), species + 1);
    let traits = family.traits(species);
    if traits.is_empty() {
        name
    } else {
        format!("{name} ({})", traits.join(", "))
    }
}

impl Dataset for Lookalikes {
    fn len(&self) -> usize {
        self.len
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        self.check(index)?;
        Ok(match self.drawn.get(index) {
            Some(drawn) => drawn.get_or_init(|| self.draw(index)).clone(),
            None => self.draw(index),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.check(index).ok()?;
        u32::try_from(self.class(index)).ok()
    }

    fn id(&self, index: usize) -> String {
        format!("lookalikes/{}/{index:06}", self.split.name())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Fractions where an edge of the part crosses a pixel; what an occluder hides is left out. A
    /// class alone in its family has no telling part, and an empty mask.
    fn part_mask(&self, index: usize) -> Result<Option<PartMask>, Error> {
        self.check(index)?;
        let canvas = self.canvas(self.class(index), &self.scene(index));
        Ok(Some(PartMask {
            width: self.size,
            height: self.size,
            values: canvas.parts,
        }))
    }
}
