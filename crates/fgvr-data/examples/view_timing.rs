//! How long decoding and augmenting take on one core: `cargo run --release -p fgvr-data --example view_timing`.
//! With a folder as argument, its photos; otherwise one drawn photo of 160 x 160 pixels.

use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fgvr_data::augment::{
    AugmentConfig, RESIZE_RATIO, ViewKey, augment, evaluate_transform, moco_v2,
};
use fgvr_data::{Dataset, Error, Folder, Image, Labels, Normalisation, decode_bytes};

const VIEWS: u64 = 400;

fn main() -> Result<(), Error> {
    let image = match std::env::args().nth(1) {
        Some(folder) => of_folder(Path::new(&folder))?,
        None => drawn()?,
    };
    say(&format!("photo of {} x {}", image.width, image.height));
    let norm = Normalisation::imagenet();
    let always = AugmentConfig {
        jitter: 1.,
        blur: 1.,
        ..moco_v2()
    };
    for size in [64, 96, 224] {
        for (name, cfg) in [
            ("moco_v2", moco_v2()),
            ("jitter and blur always", always.clone()),
        ] {
            report(&format!("view {size} px, {name}"), |index| {
                let key = ViewKey {
                    seed: 0,
                    epoch: 0,
                    index,
                    view: 0,
                };
                black_box(augment(black_box(&image), size, &cfg, &norm, key));
            });
        }
        report(&format!("evaluation {size} px"), |_| {
            black_box(evaluate_transform(
                black_box(&image),
                size,
                RESIZE_RATIO,
                &norm,
            ));
        });
    }
    Ok(())
}

/// Times decoding all photos of a folder, and gives the first.
fn of_folder(folder: &Path) -> Result<Image, Error> {
    let photos = Folder::new(folder, Labels::Auto, 1 << 26)?;
    let count = photos.len().min(200);
    let started = Instant::now();
    for index in 0..count {
        black_box(photos.load(index)?);
    }
    say(&format!(
        "decode: {:?} each",
        started.elapsed() / count as u32
    ));
    photos.load(0)
}

fn drawn() -> Result<Image, Error> {
    let picture = image::RgbImage::from_fn(160, 160, |x, y| {
        let wave = |k: u32| (127. + 120. * (f64::from(x * k + y) / 17.).sin()) as u8;
        image::Rgb([wave(1), wave(2), (x ^ y) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Jpeg)
        .map_err(|source| Error::Decode {
            path: "drawn".into(),
            source,
        })?;
    let bytes = bytes.into_inner();
    report(&format!("decode {} bytes of JPEG", bytes.len()), |_| {
        let _ = black_box(decode_bytes(black_box(&bytes), Path::new("drawn"), 1 << 26));
    });
    decode_bytes(&bytes, Path::new("drawn"), 1 << 26)
}

/// Prints the mean time of `work`, the fastest of three rounds.
fn report(name: &str, work: impl Fn(u64)) {
    let round = || {
        let started = Instant::now();
        (0..VIEWS).for_each(&work);
        started.elapsed() / VIEWS as u32
    };
    let best = (0..3).map(|_| round()).min().unwrap_or(Duration::ZERO);
    say(&format!("{name}: {best:?}"));
}

fn say(line: &str) {
    // A reader that has seen enough is no error.
    let _ = writeln!(std::io::stdout(), "{line}");
}
