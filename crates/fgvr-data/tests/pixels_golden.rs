//! Every kind of file that the decoders know against Pillow's pixels (tests/golden/pixels.py).

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use fgvr_data::augment::{EvaluationView, Fit, Interpolation};
use fgvr_data::{Error, Normalisation, decode_bytes};

/// A row of `pixels.csv`.
struct Row {
    file: String,
    /// The largest difference of a channel; `None` where the file is to be refused.
    bound: Option<i32>,
    /// What stands in the error of a file that is refused.
    says: String,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pixels.csv");
    let mut table = csv::Reader::from_path(path).unwrap();
    let rows = table.records().map(|record| {
        let record = record.unwrap();
        Row {
            file: record[0].to_owned(),
            bound: record[1].parse().ok(),
            says: record[2].to_owned(),
        }
    });
    rows.collect()
}

fn golden() -> HashMap<String, Tensor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = ["pixels.safetensors", "pixels_jpeg.safetensors"];
    let load = |file| candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap();
    files.into_iter().flat_map(load).collect()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What is wrong with how `row`'s file is read; `None` where nothing is.
fn problem(row: &Row, golden: &HashMap<String, Tensor>) -> Option<String> {
    let file = bytes(&golden[&format!("file.{}", row.file)]);
    let found = decode_bytes(&file, Path::new(&row.file), 1 << 20);
    let Some(bound) = row.bound else {
        return match found {
            Ok(_) => Some("read, expected an error".to_owned()),
            Err(error @ Error::Kind { .. }) if error.to_string().contains(&row.says) => None,
            Err(error) => Some(format!("{error}; expected it to name {:?}", row.says)),
        };
    };
    let image = match found {
        Ok(image) => image,
        Err(error) => return Some(error.to_string()),
    };
    let expected = &golden[&format!("pixels.{}", row.file)];
    let (height, width, _) = expected.dims3().unwrap();
    if (image.width, image.height) != (width, height) {
        let (w, h) = (image.width, image.height);
        return Some(format!("{w} x {h}, expected {width} x {height}"));
    }
    let pairs = bytes(expected).into_iter().zip(&image.pixels);
    let most = pairs
        .map(|(a, b)| (i32::from(a) - i32::from(*b)).abs())
        .max();
    let most = most.unwrap();
    (most > bound).then(|| format!("{most} from Pillow's, allowed are {bound}"))
}

#[test]
fn every_kind_of_file_has_pillows_pixels_or_is_refused_by_name() {
    let (rows, golden) = (rows(), golden());
    let problems: Vec<_> = rows
        .iter()
        .filter_map(|row| Some(format!("{}: {}", row.file, problem(row, &golden)?)))
        .collect();
    assert!(
        problems.is_empty(),
        "{} of {} files:\n{}",
        problems.len(),
        rows.len(),
        problems.join("\n")
    );
    // All that the script made stands in the table, and the table is what it made.
    let files = golden.keys().filter(|name| name.starts_with("file."));
    assert_eq!(files.count(), rows.len());
    assert!(rows.len() > 240, "{} files", rows.len());
    for kind in ["png_", "jpeg_", "webp_", "bmp_"] {
        assert!(rows.iter().any(|row| row.file.starts_with(kind)), "{kind}");
    }
}

#[test]
fn what_is_refused_says_what_to_do() {
    let golden = golden();
    let mut seen = 0;
    for row in rows().iter().filter(|row| row.bound.is_none()) {
        let file = bytes(&golden[&format!("file.{}", row.file)]);
        let error = decode_bytes(&file, Path::new(&row.file), 1 << 20).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&row.file), "{text}");
        let remedies = ["save it again", "jpegtran", "fetch or copy it again"];
        assert!(
            remedies.iter().any(|remedy| text.contains(remedy)),
            "{text}"
        );
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn every_filter_resizes_as_pillows() {
    let golden = golden();
    let file = bytes(&golden["file.png_to_resize.png"]);
    let image = decode_bytes(&file, Path::new("png_to_resize.png"), 1 << 20).unwrap();
    let filters = [
        ("nearest", Interpolation::Nearest),
        ("box", Interpolation::Box),
        ("bilinear", Interpolation::Bilinear),
        ("hamming", Interpolation::Hamming),
        ("bicubic", Interpolation::Bicubic),
        ("lanczos", Interpolation::Lanczos),
    ];
    for (name, interpolation) in filters {
        for size in [7, 19] {
            let view = EvaluationView {
                size,
                fit: Fit::Squash,
                interpolation,
            };
            let planes = view.apply(&image, &Normalisation::none());
            // (size, size, 3) -> (3, size, size)
            let expected = golden[&format!("resized.{name}.{size}")].permute((2, 0, 1));
            let expected = bytes(&expected.unwrap());
            let off = planes.iter().zip(&expected);
            let off = off.map(|(a, b)| (a * 255. - f32::from(*b)).abs());
            let most = off.fold(0., f32::max);
            // Pillow rounds to whole grey levels after each direction.
            let bound = if name == "nearest" { 1e-3 } else { 1.5 };
            assert!(most < bound, "{name} to {size}: {most} grey levels");
        }
    }
}
