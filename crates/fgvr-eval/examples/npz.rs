//! Evaluates embeddings from an .npz archive: `features` (N, D), f32 or f64, and `labels` (N), whole numbers. Every fifth row
//! of a class is tested on.
//!
//! `cargo run --release --example npz [-- FILE.npz]`; without a file it makes one first, as `numpy.savez` would.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use fgvr_eval::{
    Embeddings, KnnConfig, ProbeConfig, RetrievalConfig, knn, knn_predictions, linear_probe,
    retrieval, slices,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An array of NumPy: its shape, and its values as f64.
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// Reads `name`.npy of an archive, stored or deflated.
fn read(path: &Path, name: &str) -> Result<Array> {
    let mut archive = zip::ZipArchive::new(File::open(path)?)?;
    let file = format!("{name}.npy");
    let index = archive
        .index_for_name(&file)
        .ok_or_else(|| format!("{}: no array `{name}`", path.display()))?;
    let mut record = archive.by_index_raw(index)?;
    let mut bytes = Vec::new();
    match record.compression() {
        zip::CompressionMethod::STORE => record.read_to_end(&mut bytes)?,
        // NumPy knows no other.
        _ => flate2::read::DeflateDecoder::new(record).read_to_end(&mut bytes)?,
    };
    parse(&bytes).map_err(|what| format!("{}: {name} {what}", path.display()).into())
}

/// The array in the bytes of a .npy file of version 1, little-endian, in C's order.
fn parse(bytes: &[u8]) -> std::result::Result<Array, String> {
    let cut = "ends early";
    if !bytes.starts_with(b"\x93NUMPY\x01") {
        return Err("is no .npy file of version 1".to_owned());
    }
    let length: [u8; 2] = bytes
        .get(8..10)
        .and_then(|b| b.try_into().ok())
        .ok_or(cut)?;
    let start = 10 + usize::from(u16::from_le_bytes(length));
    let header = String::from_utf8_lossy(bytes.get(10..start).ok_or(cut)?);
    if !header.contains("'fortran_order': False") {
        return Err("is in Fortran's order".to_owned());
    }
    let after = |key: &str| header.split(key).nth(1).map(str::trim_start);
    let kind = after("'descr':").and_then(|rest| rest.split('\'').nth(1));
    let sides = after("'shape':").and_then(|rest| rest.split(['(', ')']).nth(1));
    let (kind, sides) = kind.zip(sides).ok_or("has an odd header")?;
    let sides = sides.split(',').map(str::trim).filter(|s| !s.is_empty());
    let shape: std::result::Result<Vec<usize>, _> = sides.map(str::parse).collect();
    let shape = shape.map_err(|_| "has an odd shape")?;
    /// Values of N bytes each.
    fn each<const N: usize>(data: &[u8], of: fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks().0.iter().map(|chunk| of(*chunk)).collect()
    }
    let data = &bytes[start..];
    let values = match kind {
        "<f4" => each(data, |b| f64::from(f32::from_le_bytes(b))),
        "<f8" => each(data, f64::from_le_bytes),
        "<i8" => each(data, |b| i64::from_le_bytes(b) as f64),
        "<i4" => each(data, |b| f64::from(i32::from_le_bytes(b))),
        "<u4" => each(data, |b| f64::from(u32::from_le_bytes(b))),
        other => return Err(format!("has values of type {other}")),
    };
    match shape.iter().product::<usize>() == values.len() {
        true => Ok(Array { shape, values }),
        false => Err(format!("is {shape:?} and holds {} values", values.len())),
    }
}

/// Writes features of ten classes, 40 rows of 24 numbers each, that overlap.
fn example(path: &Path) -> Result<()> {
    let value = |i: usize| (((i as f64 * 12.9898).sin() * 43758.5453).rem_euclid(1.) - 0.5) as f32;
    let features = (0..400 * 24).flat_map(|i| {
        let (row, column) = (i / 24, i % 24);
        (value(row % 10 * 24 + column) + 1.6 * value(7000 + i)).to_le_bytes()
    });
    let labels = (0..400i64).flat_map(|row| (row % 10).to_le_bytes());
    let mut archive = zip::ZipWriter::new(File::create(path)?);
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::STORE);
    let arrays: [(&str, &str, &str, Vec<u8>); 2] = [
        ("features", "<f4", "(400, 24)", features.collect()),
        ("labels", "<i8", "(400,)", labels.collect()),
    ];
    for (name, kind, shape, data) in arrays {
        archive.start_file(format!("{name}.npy"), stored)?;
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        archive.write_all(b"\x93NUMPY\x01\x00")?;
        archive.write_all(&u16::try_from(header.len())?.to_le_bytes())?;
        archive.write_all(header.as_bytes())?;
        archive.write_all(&data)?;
    }
    archive.finish()?;
    Ok(())
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(path) => path.into(),
        None => {
            let path = folder.path().join("features.npz");
            example(&path)?;
            path
        }
    };
    let (features, labels) = (read(&path, "features")?, read(&path, "labels")?);
    let &[rows, width] = features.shape.as_slice() else {
        return Err(format!("features are {:?}, expected (N, D)", features.shape).into());
    };
    if labels.values.len() != rows {
        return Err(format!("{} labels for {rows} rows", labels.values.len()).into());
    }

    // Every fifth row of a class is tested on.
    let (mut train, mut test) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for (row, label) in features.values.chunks_exact(width).zip(&labels.values) {
        let label = *label as u32;
        let count = seen.entry(label).or_default();
        *count += 1;
        let side = if count.is_multiple_of(5) {
            &mut test
        } else {
            &mut train
        };
        side.0.extend(row.iter().map(|value| *value as f32));
        side.1.push(label);
    }
    let train_set = Embeddings::from_slice(&train.0, width, train.1)?;
    let test_set = Embeddings::from_slice(&test.0, width, test.1)?;

    let mut out = std::io::stdout();
    writeln!(out, "{rows} rows of {width}, {} classes", seen.len())?;
    let nearest = knn(&train_set, &test_set, &KnnConfig::default())?;
    let probe = linear_probe(&train_set, &test_set, &ProbeConfig::default())?;
    let found = retrieval(&test_set, &RetrievalConfig::default())?;
    writeln!(
        out,
        "kNN top-1     {:.3}  (k = {})",
        nearest.top1, nearest.k
    )?;
    writeln!(
        out,
        "probe top-1   {:.3}  (weight decay {})",
        probe.top1, probe.weight_decay
    )?;
    writeln!(out, "retrieval mAP {:.3}", found.map)?;
    let rank = slices::effective_rank(&train.0, width)?;
    writeln!(out, "effective rank {rank:.1} of {width}")?;
    let first = &knn_predictions(&train_set, &test_set.features, &KnnConfig::default())?[0];
    let nearest: Vec<String> = first
        .neighbours
        .iter()
        .take(3)
        .map(|n| format!("row {} of class {} ({:.2})", n.row, n.label, n.similarity))
        .collect();
    writeln!(
        out,
        "the first test row, of class {}, is taken for class {} with {:.0} % of the votes; nearest: {}",
        test_set.labels[0],
        first.class,
        100. * first.vote,
        nearest.join(", ")
    )?;
    Ok(())
}
