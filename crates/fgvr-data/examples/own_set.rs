//! A data set of one's own: discs and rings, drawn when they are asked for. What is in a database, an archive or a camera is
//! taken up in the same way.
//!
//! `cargo run --release --example own_set` takes a moment.

use std::error::Error as StdError;
use std::io::Write as _;
use std::sync::Arc;

use fgvr_data::augment::{EvaluationView, RESIZE_RATIO, augment, moco_v2};
use fgvr_data::{Dataset, Error, Image, Loader, LoaderConfig, Normalisation, Position, load_batch};

const SIDE: usize = 48;

struct Shapes {
    images: usize,
    classes: Vec<String>,
}

impl Dataset for Shapes {
    fn len(&self) -> usize {
        self.images
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        if index >= self.images {
            return Err(Error::IndexOutOfRange {
                set: "shapes".to_owned(),
                index,
                len: self.images,
            });
        }
        let hole = if index.is_multiple_of(2) { 0. } else { 7. };
        let middle = [16, 24, 32].map(|at| at as f64);
        let (y, x) = (middle[index / 2 % 3], middle[index / 6 % 3]);
        let pixel = |at: usize| {
            let (row, column) = ((at / SIDE) as f64, (at % SIDE) as f64);
            let distance = (row - y).hypot(column - x);
            match (hole..12.).contains(&distance) {
                true => [230, 120, 40],
                false => [20, 40, 60],
            }
        };
        Ok(Image {
            width: SIDE,
            height: SIDE,
            pixels: (0..SIDE * SIDE).flat_map(pixel).collect(), // RGB, row by row
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        (index < self.images).then_some(index as u32 % 2)
    }

    fn id(&self, index: usize) -> String {
        format!("shape {index}")
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let set: Arc<dyn Dataset> = Arc::new(Shapes {
        images: 90,
        classes: vec!["disc".to_owned(), "ring".to_owned()],
    });

    // To train: random views, the same for the same seed on any number of threads.
    let (views, norm) = (moco_v2(), Normalisation::imagenet());
    let transform = Arc::new(move |image: &Image, key| augment(image, 32, &views, &norm, key));
    let cfg = LoaderConfig {
        batch: 16,
        size: 32,
        ..LoaderConfig::default()
    };
    let mut loader = Loader::new(Arc::clone(&set), cfg, transform, Position::default())?;
    let mut out = std::io::stdout();
    loop {
        let batch = loader.next()?;
        let rings = batch.labels.iter().filter(|label| **label == Some(1));
        writeln!(
            out,
            "epoch {} batch {}: {} views of {:?}, {} of {} images are rings",
            batch.epoch,
            batch.batch,
            batch.views.len(),
            batch.views[0].dims(),
            rings.count(),
            batch.labels.len()
        )?;
        if batch.last_of_epoch {
            break;
        }
    }

    // To evaluate: the one fixed view of each image.
    let view = EvaluationView::of_ratio(32, RESIZE_RATIO);
    let loaded = load_batch(set.as_ref(), &[0, 1, 2], &view, &Normalisation::imagenet())?;
    let images = loaded.images.ok_or("no image could be read")?;
    writeln!(
        out,
        "evaluation sees {:?} of {}",
        images.dims(),
        set.classes().join(" and ")
    )?;
    Ok(())
}
