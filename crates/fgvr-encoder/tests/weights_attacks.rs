//! Files made to harm: each is an error that says what is wrong, soon and in little memory.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::Init;
use fgvr_encoder::Error;
use fgvr_encoder::weights::{
    LoadOptions, Preprocessing, Resize, ShardIndex, Source, Weights, load,
};
use fgvr_nn::Parameters;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn refused(name: &str, bytes: Vec<u8>) -> Error {
    let opened = Weights::from_bytes(name, bytes);
    opened
        .err()
        .unwrap_or_else(|| panic!("{name} was accepted"))
}

#[track_caller]
fn says(error: &Error, text: &str) {
    assert!(error.to_string().contains(text), "{error}");
}

// safetensors

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refused_header(header: &str, data: usize) -> Error {
    refused("a.safetensors", safetensors(header, data))
}

#[test]
fn header_too_large() {
    for length in [100_000_001, u64::MAX - 7, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        says(
            &refused("a.safetensors", bytes),
            "more than the 100000000 allowed",
        );
    }
}

#[test]
fn header_longer_than_the_file() {
    let mut bytes = 99_000_000u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    let error = refused("a.safetensors", bytes);
    assert!(
        matches!(
            error,
            Error::Length {
                expected: 99_000_008,
                found: 10,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn overlapping_offsets() {
    let error = refused_header(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        12,
    );
    says(&error, "tensors overlap or leave a gap");
}

#[test]
fn offsets_with_a_gap() {
    let error = refused_header(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        8,
    );
    says(&error, "begins at byte 4, expected 0");
}

#[test]
fn offsets_that_run_backwards_or_do_not_fit_the_shape() {
    for offsets in ["[8,0]", "[0,4]", "[0,18446744073709551615]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        says(&refused_header(&header, 8), "does not take the bytes");
    }
}

#[test]
fn shape_that_overflows() {
    let header = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    says(&refused_header(header, 0), "does not take the bytes");
    let many = ["1"; 40].join(",");
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{many}],"data_offsets":[0,4]}}}}"#);
    says(&refused_header(&header, 4), "at most 16 sizes");
}

#[test]
fn duplicate_names() {
    let tensor = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    says(
        &refused_header(&format!("{{{tensor},{tensor}}}"), 4),
        r#""a" stands twice"#,
    );
    let notes = r#""__metadata__":{"a":"b"}"#;
    says(
        &refused_header(&format!("{{{notes},{notes}}}"), 0),
        "stands twice",
    );
}

#[test]
fn header_of_deeply_nested_json() {
    let error = refused_header(&"{\"a\":".repeat(100_000), 0);
    assert!(matches!(error, Error::Format { .. }), "{error}");
}

#[test]
fn header_with_an_unknown_type() {
    let error = refused_header(r#"{"a":{"dtype":"F5","shape":[],"data_offsets":[0,1]}}"#, 1);
    says(&error, r#"unknown type "F5""#);
}

#[test]
fn not_finite_in_any_type() {
    for (dtype, value) in [
        ("F32", f32::INFINITY.to_le_bytes().to_vec()),
        ("F16", 0x7e00u16.to_le_bytes().to_vec()),
        ("BF16", 0xff80u16.to_le_bytes().to_vec()),
        ("F64", f64::NAN.to_le_bytes().to_vec()),
        ("F64", 1e300f64.to_le_bytes().to_vec()), // finite, but not as an f32
    ] {
        let end = value.len();
        let header =
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{end}]}}}}"#);
        let mut bytes = safetensors(&header, 0);
        bytes.extend(value);
        let parameters = Parameters::new(0);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        vb.get_with_hints(1, "a", Init::Const(7.)).unwrap();
        let weights = Weights::from_bytes("a.safetensors", bytes).unwrap();
        let error = load(&parameters, &weights, &LoadOptions::default()).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{dtype}: {error}");
        assert_eq!(parameters.all()["a"].to_vec1::<f32>().unwrap(), [7.]);
    }
}

// the index of shards

fn index(map: &str) -> Result<ShardIndex, Error> {
    let text = format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{map}}}"#);
    ShardIndex::parse(Path::new("model.safetensors.index.json"), text.as_bytes())
}

#[test]
fn shard_name_that_leads_out_of_the_folder() {
    for name in [
        "../secret.safetensors",
        "..",
        "/etc/passwd",
        "sub/model.safetensors",
        r"..\\secret",
        "C:model.safetensors",
        "",
        ".hidden",
        r"a\u0000b",
    ] {
        let error = index(&format!(r#"{{"a":"{name}"}}"#)).unwrap_err();
        says(&error, "expected the name of a file beside the index");
    }
    assert!(index(r#"{"a":"model-00001-of-00002.safetensors"}"#).is_ok());
}

#[test]
fn duplicate_names_in_an_index() {
    says(
        &index(r#"{"a":"x","a":"y"}"#).unwrap_err(),
        r#""a" stands twice"#,
    );
}

#[test]
fn shard_that_is_missing_or_lacks_a_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors.index.json");
    fs::write(&file, r#"{"weight_map":{"b":"part.safetensors"}}"#).unwrap();
    let error = Weights::open_file(folder.path()).err().unwrap();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    says(&error, "part.safetensors");
    let part = safetensors(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        4,
    );
    fs::write(folder.path().join("part.safetensors"), part).unwrap();
    let error = Weights::open_file(folder.path()).err().unwrap();
    assert!(matches!(error, Error::NotInShard { .. }), "{error}");
}

// torch.save

/// A zip with these records, as torch.save stores them or deflated.
fn zipped(records: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in records {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::STORE);
        if deflate {
            // Without zip's own deflate: its header is made right by hand.
            zip.start_file(*name, options).unwrap();
            zip.write_all(&deflated(bytes)).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
    }
    let mut file = zip.finish().unwrap().into_inner();
    if deflate {
        let sizes: Vec<u32> = records
            .iter()
            .map(|(_, bytes)| bytes.len() as u32)
            .collect();
        claim_deflated(&mut file, &sizes);
    }
    file
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes "deflated" and the sizes into the central directory.
fn claim_deflated(file: &mut [u8], sizes: &[u32]) {
    let starts: Vec<usize> = file
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == b"PK\x01\x02")
        .map(|(at, _)| at)
        .collect();
    assert_eq!(starts.len(), sizes.len());
    for (start, size) in starts.into_iter().zip(sizes) {
        file[start + 10..start + 12].copy_from_slice(&8u16.to_le_bytes());
        file[start + 24..start + 28].copy_from_slice(&size.to_le_bytes());
    }
}

fn torch(pickle: &[u8]) -> Vec<u8> {
    zipped(&[("a/data.pkl", pickle), ("a/data/0", &[0; 64])], false)
}

fn refused_pickle(pickle: &[u8]) -> Error {
    refused("a.pth", torch(pickle))
}

/// `{"w": tensor}` with these parts of the call that makes the tensor.
fn state(count: u32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut pickle =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage\
        ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ"
            .to_vec();
    pickle.extend(count.to_le_bytes());
    pickle.extend(b"tQJ");
    pickle.extend(offset.to_le_bytes());
    for list in [shape, strides] {
        pickle.push(b'(');
        for value in list {
            pickle.push(b'J');
            pickle.extend(value.to_le_bytes());
        }
        pickle.push(b't');
    }
    pickle.extend(b"\x89}tRs.");
    pickle
}

#[test]
fn a_small_state_dict_is_read_stored_or_deflated() {
    let pickle = state(16, 2, &[2, 3], &[1, 2]);
    let values: Vec<u8> = (0..16u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let records: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/data/0", &values)];
    for deflate in [false, true] {
        let weights = Weights::from_bytes("a.pth", zipped(&records, deflate)).unwrap();
        let tensor = weights.read("w").unwrap();
        let rows = tensor.to_vec2::<f32>().unwrap();
        assert_eq!(rows, [[2., 4., 6.], [3., 5., 7.]]);
    }
}

#[test]
fn pickle_that_calls_a_function_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    for call in [
        format!("cos\nsystem\n(S'touch {}'\ntR.", mark.display()),
        format!(
            "cbuiltins\nexec\n(S'open(\"{}\", \"w\")'\ntR.",
            mark.display()
        ),
        format!("(S'touch {}'\nios\nsystem\n.", mark.display()),
    ] {
        says(&refused_pickle(call.as_bytes()), "holds no state dict");
    }
    assert!(!mark.exists());
}

#[test]
fn pickle_bomb_of_shared_lists() {
    // Each list holds the one before ten times: 10^60 items if they were copied.
    let mut pickle = b"\x80\x02]q\0".to_vec();
    for level in 0..60u8 {
        pickle.extend([b']', b'q', level + 1, b'(']);
        for _ in 0..10 {
            pickle.extend([b'h', level]);
        }
        pickle.push(b'e');
    }
    pickle.push(b'.');
    says(&refused_pickle(&pickle), "holds no state dict");
}

#[test]
fn pickle_bomb_of_dictionaries_in_each_other() {
    // A dictionary that holds itself under many names: 200^8 paths.
    let mut pickle = b"\x80\x02}q\0(".to_vec();
    for key in 0..200u8 {
        pickle.extend([b'K', key, b'h', 0]);
    }
    pickle.extend(b"u.");
    says(&refused_pickle(&pickle), "more values than its size allows");
}

#[test]
fn pickle_bomb_of_many_values() {
    let pickle = [vec![b'N'; 4_000_000], vec![b'.']].concat();
    says(&refused_pickle(&pickle), "more values than its size allows");
}

#[test]
fn pickle_of_deep_tuples_does_not_overflow_the_stack() {
    let pickle = [b"N".to_vec(), vec![0x85; 30_000], b".".to_vec()].concat();
    let error = refused_pickle(&pickle);
    assert!(matches!(error, Error::Format { .. }), "{error}");
}

#[test]
fn pickle_with_length_fields_beyond_its_end() {
    for opcode in *b"TXB\x8b" {
        let error = refused_pickle(&[opcode, 0xff, 0xff, 0xff, 0x7f, b'.']);
        says(&error, "its pickle ends too early");
    }
    for opcode in *b"\x8d\x8e\x96" {
        let pickle = [&[opcode][..], &u64::MAX.to_le_bytes(), b"."].concat();
        says(&refused_pickle(&pickle), "its pickle ends too early");
    }
}

#[test]
fn pickle_that_takes_from_an_empty_stack() {
    for pickle in [
        &b"."[..],
        b"0.",
        b"R.",
        b"t.",
        b"u.",
        b"(0s.",
        b"h\0.",
        b"Q.",
        b"\x87.",
        b"e.",
    ] {
        let error = refused_pickle(pickle);
        says(&error, "its pickle is damaged");
    }
    says(
        &refused_pickle(b"\xff."),
        "unknown instruction 0xff at byte 0",
    );
}

#[test]
fn tensor_that_leaves_its_storage() {
    for (offset, shape, strides) in [
        (0, &[17][..], &[1][..]),
        (10, &[7], &[1]),
        (0, &[2, 2], &[16, 1]),
        (i32::MAX, &[1], &[1]),
        (0, &[1 << 20, 1 << 20, 1 << 20, 1 << 20], &[0, 0, 0, 0]), // a view that repeats one value
        (0, &[2], &[1, 1]),
    ] {
        let error = refused_pickle(&state(16, offset, shape, strides));
        assert!(matches!(error, Error::Format { .. }), "{error}");
        says(&error, "w: ");
    }
    // Negative sizes make no tensor.
    says(
        &refused_pickle(&state(16, 0, &[-1], &[1])),
        "holds no state dict",
    );
    let missing = zipped(&[("a/data.pkl", &state(16, 0, &[16], &[1]))], false);
    says(
        &refused("a.pth", missing),
        "its storage a/data/0 is not in the file",
    );
}

#[test]
fn duplicate_names_across_dictionaries() {
    // {"a.b": t, "a": {"b": t}}: both tensors are `a.b`.
    let tensor = state(16, 0, &[1], &[1]);
    let call = &tensor[b"\x80\x02}X\x01\0\0\0w".len()..tensor.len() - 2];
    let pickle = [
        &b"\x80\x02}(X\x03\0\0\0a.b"[..],
        call,
        b"X\x01\0\0\0a}X\x01\0\0\0b",
        call,
        b"su.",
    ]
    .concat();
    says(&refused_pickle(&pickle), r#""a.b" stands twice"#);
}

#[test]
fn duplicate_records() {
    let pickle = state(16, 0, &[16], &[1]);
    let records: [(&str, &[u8]); 3] = [
        ("a/data.pkl", &pickle),
        ("a/data/0", &[0; 64]),
        ("a/data/1", &[1; 64]),
    ];
    let mut file = zipped(&records, false);
    let name = b"a/data/1";
    let places: Vec<usize> = file
        .windows(8)
        .enumerate()
        .filter(|(_, w)| w == name)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        file[at + 7] = b'0';
    }
    says(&refused("a.pth", file), "two records have one name");
}

#[test]
fn zip_bomb() {
    let pickle = state(16, 0, &[16], &[1]);
    let records: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/data/0", &vec![0; 30 << 20])];
    let file = zipped(&records, true);
    assert!(file.len() < 100_000);
    says(&refused("a.pth", file), "would inflate to 31457");
}

#[test]
fn zip_record_that_inflates_to_less_or_more_than_it_says() {
    let pickle = state(16, 0, &[16], &[1]);
    let records: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/data/0", &[0; 64])];
    let mut file = zipped(&records, true);
    claim_deflated(&mut file, &[pickle.len() as u32, 80]);
    let weights = Weights::from_bytes("a.pth", file.clone()).unwrap();
    assert_eq!(weights.read("w").unwrap().elem_count(), 16);
    claim_deflated(&mut file, &[pickle.len() as u32 + 9, 64]);
    says(&refused("a.pth", file), "inflates to less than its size");
}

#[test]
fn a_truncated_zip_is_an_error_wherever_it_was_cut() {
    let whole = torch(&state(16, 0, &[16], &[1]));
    assert!(Weights::from_bytes("a.pth", whole.clone()).is_ok());
    for length in 0..whole.len() {
        refused("a.pth", whole[..length].to_vec());
    }
}

#[test]
fn big_endian_and_torchscript_files_are_refused_by_name() {
    let pickle = state(16, 0, &[16], &[1]);
    let big: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/byteorder", b"big")];
    says(
        &refused("a.pth", zipped(&big, false)),
        r#"byte order is "big""#,
    );
    let script: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/constants.pkl", b"\x80\x02).")];
    says(
        &refused("a.pt", zipped(&script, false)),
        "a TorchScript program",
    );
}

// what is not weights at all

#[test]
fn files_that_are_something_else_say_what() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec();
    let error = refused("model.safetensors", pointer);
    assert!(matches!(error, Error::LfsPointer { .. }), "{error}");
    let mut tar = vec![0; 1024];
    tar[..9].copy_from_slice(b"model.pth");
    tar[257..262].copy_from_slice(b"ustar");
    let mut old_tar = tar.clone();
    old_tar[..9].copy_from_slice(b"sys_info\0");
    let page = b"\xef\xbb\xbf \n<!DOCTYPE HTML><head>\n<TITLE>Sign in \xb7\nHub</title>";
    let kinds: [(&[u8], &str, &str); 32] = [
        (b"", "an empty file", "fetch the file again"),
        (&[0; 4096], "zeros", "fetch the file again"),
        (
            b"<!doctype html><html><body>Not found</body></html>",
            "an HTML page",
            "open the address",
        ),
        (page, "an HTML page titled \"Sign in", "open the address"),
        (
            b"<?xml version=\"1.0\"?>\n<html xmlns=\"x\">",
            "an HTML page",
            "open the address",
        ),
        (
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied",
            "a document of XML",
            "a server gave it",
        ),
        (
            b"{\"error\":\"Invalid username or password.\"}",
            "JSON that begins {",
            "Invalid username",
        ),
        (
            b"[1, 2]",
            "JSON that begins",
            "name the file of the weights",
        ),
        (
            b"Not Found",
            "text that begins \"Not Found\"",
            "expected a safetensors file",
        ),
        (
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
            "a gzip archive",
            "unpack it",
        ),
        (b"BZh91AY&SY", "a bzip2 archive", "unpack it"),
        (b"\xfd7zXZ\0\0\x04\xe6", "an xz archive", "unpack it"),
        (b"\x28\xb5\x2f\xfd\x04\0", "a zstd archive", "unpack it"),
        (&tar, "first in it is \"model.pth\"", "unpack it"),
        (&old_tar, "before torch 0.1.10", "torch.load"),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\x0d",
            "a picture (PNG)",
            "expected a safetensors file",
        ),
        (
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            "a picture (JPEG)",
            "expected",
        ),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "a picture (WebP)", "expected"),
        (b"GIF89a\x01\0\x01\0", "a picture (GIF)", "expected"),
        (
            b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0",
            "a picture (BMP)",
            "expected",
        ),
        (b"\0\0\0\x1cftypheic", "a picture or film", "expected"),
        (b"%PDF-1.7\n", "a PDF document", "expected"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file", "convert it"),
        (b"GGUF\x03\0\0\0\x10\0", "a GGUF file", "convert it"),
        (
            b"\x1c\0\0\0TFL3\0\0",
            "a TensorFlow Lite file",
            "convert it",
        ),
        (b"\x08\x07\x12\x07pytorch\x1a", "an ONNX file", "convert it"),
        (
            b"\x08\x01\x12\x80\x80\x01\x0a",
            "a model of TensorFlow",
            "convert it",
        ),
        (
            b"\x93NUMPY\x01\0v\0",
            "an array of NumPy",
            "save its tensors",
        ),
        (
            b"\x80\x04\x95\x05\0\0\0\0\0\0\0}\x94.",
            "a pickle that torch.save did not write",
            "save its",
        ),
        (b"\x7fELF\x02\x01\x01\0\0", "a program", "expected"),
        (
            b"\x9a\x31\x07\xfe\x80\x11\x02\x03\x04\x05",
            "begins with the bytes 9a 31 07",
            "expected",
        ),
        (
            b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "an empty zip archive",
            "fetch",
        ),
    ];
    for (bytes, found, advice) in kinds {
        for name in ["model.safetensors", "resnet50.pth", "model"] {
            let error = refused(name, bytes.to_vec());
            assert!(
                matches!(error, Error::NotWeights { .. }),
                "{found}: {error}"
            );
            says(&error, name);
            says(&error, found);
            says(&error, advice);
            assert!(error.to_string().chars().count() < 400, "{error}");
        }
    }
    // Where the bytes do not say it, the name does.
    let graph = b"\x0a\x31\x07\xfe\x80\x11\x02\x03\x04\x05".to_vec();
    says(
        &refused("frozen.pb", graph),
        "a graph of TensorFlow by its name",
    );
}

#[test]
fn zip_archives_that_are_something_else_say_what() {
    for (names, found) in [
        (&["arr_0.npy", "arr_1.npy"][..], "arrays of NumPy"),
        (&["config.json", "model.weights.h5"], "a Keras model"),
        (
            &["readme.txt", "sub/resnet50.pth"],
            "a zip archive with \"sub/resnet50.pth\" in it",
        ),
        (
            &["a.jpg", "b.jpg"],
            "a zip archive of 2 files (\"a.jpg\", ...)",
        ),
        (&["a/data.pkl", "b/data.pkl"], "several records data.pkl"),
    ] {
        let records: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"x"[..])).collect();
        says(&refused("model.pth", zipped(&records, false)), found);
    }
    let whole = torch(&state(16, 0, &[16], &[1]));
    says(
        &refused("a.pth", whole[..whole.len() / 2].to_vec()),
        "was its download cut?",
    );
}

#[test]
fn a_short_header_whose_length_looks_like_another_signature_is_read() {
    // The lengths 35,615 and 640 begin as gzip and as a pickle do, 19,778 as a BMP does.
    for length in [35_615usize, 640, 19_778, 2_113] {
        let mut header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_owned();
        header.push_str(&" ".repeat(length - header.len()));
        let weights = Weights::from_bytes("a.pth", safetensors(&header, 4)).unwrap();
        assert_eq!(weights.tensors().len(), 1, "{length}");
    }
}

#[test]
fn settings_that_are_no_json_say_what_they_are() {
    let file = Path::new("config.json");
    for (bytes, found) in [
        (
            &b"<!DOCTYPE html><title>404</title>"[..],
            "an HTML page titled \"404\"",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "a Git LFS pointer",
        ),
        (b"", "an empty file; expected JSON"),
        (b"{\"a\":", "EOF while parsing"),
    ] {
        let error = Preprocessing::from_timm(file, bytes).unwrap_err();
        says(&error, found);
    }
}

#[test]
fn a_directory_must_hold_one_set_of_weights() {
    let folder = tempfile::tempdir().unwrap();
    let error = Weights::open_file(folder.path()).err().unwrap();
    says(&error, "it is empty");
    let tensor = safetensors(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        4,
    );
    fs::write(folder.path().join("one.safetensors"), &tensor).unwrap();
    assert!(Weights::open_file(folder.path()).is_ok());
    fs::write(folder.path().join("two.safetensors"), &tensor).unwrap();
    let error = Weights::open_file(folder.path()).err().unwrap();
    says(&error, "it holds one.safetensors, two.safetensors");
    fs::write(folder.path().join("model.safetensors"), &tensor).unwrap();
    assert!(Weights::open_file(folder.path()).is_ok());
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_hub_reference_without_the_hub_says_what_to_do() {
    let source: Source = "hf:timm/resnet18.a1_in1k@main".parse().unwrap();
    let error = Weights::open(&source).err().unwrap();
    says(&error, "build fgvr-encoder with the feature `hub`");
    assert_eq!(source.to_string(), "hf:timm/resnet18.a1_in1k@main");
}

#[test]
fn a_source_must_name_something() {
    for text in ["", "hf:", "hf:resnet18", "hf:a/b:../c"] {
        assert!(text.parse::<Source>().is_err(), "{text:?}");
    }
}

#[test]
fn names_cannot_write_to_the_terminal() {
    let header = "{\"\\u001b[2Ja.b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    let weights = Weights::from_bytes("a.safetensors", safetensors(header, 4)).unwrap();
    assert!(!weights.summary().to_string().contains('\u{1b}'));
}

// settings

#[test]
fn preprocessing_that_cannot_be_meant_is_refused() {
    let file = Path::new("config.json");
    for text in [
        r#"{"pretrained_cfg":{"input_size":[3,0,224]}}"#,
        r#"{"pretrained_cfg":{"input_size":[3,99999999,224]}}"#,
        r#"{"pretrained_cfg":{"input_size":[3,224,224],"crop_pct":0}}"#,
        r#"{"pretrained_cfg":{"input_size":[3,224,224],"crop_pct":1e-9}}"#,
        r#"{"pretrained_cfg":{"input_size":[3,224,224],"std":[0,1,1]}}"#,
        r#"{"pretrained_cfg":{"input_size":[3,224,224],"mean":[1e60,1,1]}}"#,
        r#"{"pretrained_cfg":{"input_size":[3,224,224],"interpolation":"cubist"}}"#,
        r#"{"pretrained_cfg":{"input_size":[224]}}"#,
        "[]",
        "",
    ] {
        let result = Preprocessing::from_timm(file, text.as_bytes());
        assert!(
            matches!(result, Err(Error::Json { .. })),
            "{text}: {result:?}"
        );
    }
    for text in [
        "{}",
        r#"{"size":0}"#,
        r#"{"size":224,"resample":9}"#,
        r#"{"size":{"shortest_edge":256},"do_center_crop":true,"crop_size":512}"#,
        r#"{"size":224,"image_std":[1,1]}"#,
        r#"{"size":224,"rescale_factor":0}"#,
        r#"{"size":{"shortest_edge":224},"crop_pct":2}"#,
    ] {
        let result = Preprocessing::from_transformers(file, text.as_bytes());
        assert!(
            matches!(result, Err(Error::Json { .. })),
            "{text}: {result:?}"
        );
    }
    assert_eq!(Preprocessing::from_timm(file, b"{}").unwrap(), None);
}

#[test]
fn every_form_of_size_is_understood() {
    let read = |text: &str| {
        let found = Preprocessing::from_transformers(Path::new("p.json"), text.as_bytes()).unwrap();
        (found.size, found.resize)
    };
    assert_eq!(read(r#"{"size":224}"#), ([224, 224], Resize::Exact));
    assert_eq!(
        read(r#"{"size":{"height":384,"width":256}}"#),
        ([384, 256], Resize::Exact)
    );
    assert_eq!(
        read(
            r#"{"size":{"shortest_edge":256},"do_center_crop":true,"crop_size":{"height":224,"width":224}}"#
        ),
        ([224, 224], Resize::ShorterSide(256))
    );
    assert_eq!(
        read(r#"{"size":256,"do_center_crop":true,"crop_size":224}"#),
        ([224, 224], Resize::ShorterSide(256))
    );
    // ResNet's processor crops by a part where images are small.
    assert_eq!(
        read(
            r#"{"size":{"shortest_edge":224},"crop_pct":0.875,"image_processor_type":"ConvNextImageProcessor"}"#
        ),
        ([224, 224], Resize::ShorterSide(256))
    );
    assert_eq!(
        read(r#"{"size":{"shortest_edge":384},"crop_pct":0.875}"#),
        ([384, 384], Resize::Exact)
    );
}

#[test]
fn a_configuration_that_computes_otherwise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/weights/transformers_resnet/model.safetensors");
    fs::copy(model, folder.path().join("model.safetensors")).unwrap();
    let config = r#"{"model_type":"resnet","downsample_in_bottleneck":true}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    let weights = Weights::open_file(folder.path()).unwrap();
    let parameters = Parameters::new(0);
    let config = fgvr_encoder::ResNetConfig {
        depth: 10,
        width: 1,
        ..fgvr_encoder::ResNetConfig::resnet18()
    };
    fgvr_encoder::ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let error = load(&parameters, &weights, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    says(&error, "downsample_in_bottleneck is true");
}
