//! Files that `torch.save` wrote before version 1.6: torch's own, and such as are made to harm. The
//! former and the script that makes them are `tests/golden/torch_legacy.py`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use fgvr_encoder::Error;
use fgvr_encoder::weights::{Source, Weights};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/torch_legacy")
        .join(name)
}

/// Every tensor of `file` is that of `expected`, bit for bit where weights may have its type.
fn check(file: &str, expected: &str) {
    let found = Weights::open_file(golden(file)).unwrap_or_else(|error| panic!("{error}"));
    let expected = Weights::open_file(golden(expected)).unwrap();
    assert_eq!(found.tensors(), expected.tensors(), "{file}");
    for (name, info) in found.tensors() {
        if matches!(
            info.dtype.to_string().as_str(),
            "F64" | "F32" | "F16" | "BF16"
        ) {
            let bits = |weights: &Weights| bits(&weights.read(name).unwrap());
            assert_eq!(bits(&found), bits(&expected), "{file}: {name}");
        } else {
            let error = found.read(name).unwrap_err();
            assert!(matches!(error, Error::DataType { .. }), "{error}");
        }
    }
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    let values = values.to_vec1::<f64>().unwrap();
    values.into_iter().map(f64::to_bits).collect()
}

#[test]
fn torchs_own_files_are_read_in_every_type_layout_and_protocol() {
    check("kinds.pth", "kinds.safetensors");
    for protocol in 1..=5 {
        check(&format!("protocol_{protocol}.pth"), "protocol.safetensors");
    }
}

#[test]
fn a_part_of_a_storage_is_read_from_its_first_value_on() {
    check("parts.pth", "parts.safetensors");
}

#[test]
fn values_are_little_endian_whatever_the_machine_that_wrote_them() {
    check("big_endian.pth", "big_endian.safetensors");
}

/// A real network of that time.
#[test]
fn efficientnet_lite0_is_read() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/weights/efficientnet-lite0/efficientnet-lite0-57934424.pth");
    if !file.is_file() {
        eprintln!("SKIPPED: {} is not there", file.display());
        return;
    }
    let weights = Weights::open(&Source::Path(file)).unwrap();
    assert_eq!(weights.tensors().len(), 296);
    let stem = &weights.tensors()["_conv_stem.weight"];
    assert_eq!(
        (stem.shape.as_slice(), stem.dtype.to_string()),
        (&[32, 3, 3, 3][..], "F32".into())
    );
    assert_eq!(
        weights.read("_conv_stem.weight").unwrap().dims(),
        [32, 3, 3, 3]
    );
    let variance = weights
        .read("_bn0.running_var")
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    assert!(variance.iter().all(|v| *v >= 0.), "{variance:?}");
}

// By hand.

const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const VERSION: &[u8] = b"\x80\x02M\xe9\x03.";
const LITTLE: &[u8] = b"\x80\x02}X\x0d\0\0\0little_endian\x88s.";
const BIG: &[u8] = b"\x80\x02}X\x0d\0\0\0little_endian\x89s.";

/// The number `value` as a pickle has it.
fn int(value: i32) -> Vec<u8> {
    [&b"J"[..], &value.to_le_bytes()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [
        b"X",
        &(value.len() as u32).to_le_bytes()[..],
        value.as_bytes(),
    ]
    .concat()
}

/// A storage by its persistent id.
fn storage(kind: &str, key: &str, count: i32, part: &[u8]) -> Vec<u8> {
    let kind = format!("ctorch\n{kind}\n");
    [
        b"(",
        &text("storage")[..],
        kind.as_bytes(),
        &text(key),
        &text("cpu"),
        &int(count),
        part,
        b"tQ",
    ]
    .concat()
}

/// `{"w": tensor}` of `storage`.
fn state(storage: &[u8], offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let tuple = |values: &[i32]| {
        let values: Vec<u8> = values.iter().flat_map(|value| int(*value)).collect();
        [b"(", &values[..], b"t"].concat()
    };
    [
        b"\x80\x02}",
        &text("w")[..],
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        storage,
        &int(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89}tRs.",
    ]
    .concat()
}

fn keys(keys: &[&str]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
    [b"\x80\x02](", &keys[..], b"e."].concat()
}

/// The values 0, 1, ... of a storage, after their number.
fn values(count: u16) -> Vec<u8> {
    let values = (0..count).flat_map(|value| f32::from(value).to_le_bytes());
    u64::from(count)
        .to_le_bytes()
        .into_iter()
        .chain(values)
        .collect()
}

fn file(machine: &[u8], object: &[u8], list: &[u8], data: &[u8]) -> Vec<u8> {
    [MAGIC, VERSION, machine, object, list, data].concat()
}

/// A file of one storage of 16 values.
fn one(object: &[u8]) -> Vec<u8> {
    file(LITTLE, object, &keys(&["0"]), &values(16))
}

fn plain() -> Vec<u8> {
    storage("FloatStorage", "0", 16, b"N")
}

fn read(bytes: Vec<u8>) -> Vec<f32> {
    let weights = Weights::from_bytes("a.pth", bytes).unwrap_or_else(|error| panic!("{error}"));
    let tensor = weights.read("w").unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn refused(bytes: Vec<u8>, reason: &str) {
    let error = Weights::from_bytes("a.pth", bytes).err().unwrap();
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn strides_offsets_and_parts_are_walked() {
    assert_eq!(
        read(one(&state(&plain(), 2, &[2, 3], &[1, 2]))),
        [2., 4., 6., 3., 5., 7.]
    );
    let part = [b"(", &text("1")[..], &int(4), &int(8), b"t"].concat();
    let part = storage("FloatStorage", "0", 16, &part);
    assert_eq!(read(one(&state(&part, 1, &[3], &[2]))), [5., 7., 9.]);
    // Python 2 wrote short strings, and torch of that time no sixth element.
    let old = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x10tQ";
    assert_eq!(read(one(&state(old, 15, &[1], &[1]))), [15.]);
}

#[test]
fn a_tensor_stays_within_its_storage_or_part() {
    for (offset, shape, strides) in [
        (0, &[17][..], &[1][..]),
        (16, &[1], &[1]),
        (0, &[2, 2], &[15, 1]),
        (0, &[1 << 20, 1 << 20, 1 << 20, 1 << 20], &[0, 0, 0, 0]),
        (0, &[2], &[1, 1]),
    ] {
        refused(one(&state(&plain(), offset, shape, strides)), "w: ");
    }
    let part = |first, count| [b"(", &text("1")[..], &int(first), &int(count), b"t"].concat();
    for (part, reason) in [
        (part(4, 2), "do not fit the 2 values"),
        (
            part(10, 7),
            "a part of 7 values from 10 on does not fit the 16",
        ),
        (part(i32::MAX, i32::MAX), "does not fit the 16"),
        // Not what a part is: no tensor.
        (part(-1, 4), "holds no state dict"),
        (b"K\x01".to_vec(), "its list of storages has \"0\""),
    ] {
        let storage = storage("FloatStorage", "0", 16, &part);
        let bytes = one(&state(&storage, 0, &[3], &[1]));
        let error = Weights::from_bytes("a.pth", bytes)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains(reason) || error.contains("its list of storages"),
            "{error}"
        );
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = one(&state(&plain(), 0, &[16], &[1]));
    assert_eq!(read(whole.clone()).len(), 16);
    for length in 0..whole.len() {
        assert!(
            Weights::from_bytes("a.pth", whole[..length].to_vec()).is_err(),
            "{length}"
        );
    }
    // Behind the pickles the length says it.
    let error = Weights::from_bytes("a.pth", whole[..whole.len() - 1].to_vec())
        .err()
        .unwrap();
    let expected = whole.len() as u64;
    assert!(
        matches!(error, Error::Length { expected: e, found, .. } if e == expected && found + 1 == e),
        "{error}"
    );
    refused(
        [&whole[..], b"more"].concat(),
        "4 bytes follow its last storage",
    );
}

#[test]
fn a_byte_changed_anywhere_is_an_error_or_other_values_and_never_a_panic() {
    let (mut opened, mut refused) = (0, 0);
    for name in ["kinds.pth", "parts.pth", "protocol_1.pth", "protocol_4.pth"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let Ok(weights) = Weights::from_bytes("a.pth", bytes) else {
                    refused += 1;
                    continue;
                };
                opened += 1;
                for (name, info) in weights.tensors() {
                    if let Ok(tensor) = weights.read(name) {
                        assert_eq!(tensor.dims(), info.shape);
                    }
                }
            }
        }
    }
    assert!(
        opened > 1000 && refused > 1000,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn counts_that_lie_are_found() {
    let object = state(&plain(), 0, &[16], &[1]);
    let mut lie = values(16);
    lie[0] = 15;
    refused(
        file(LITTLE, &object, &keys(&["0"]), &lie),
        "its storage 0 has 15 values, and its pickle says 16",
    );
    // A count that no file has costs no memory.
    let huge = state(
        &storage("DoubleStorage", "0", i32::MAX, b"N"),
        0,
        &[16],
        &[1],
    );
    let bytes = file(LITTLE, &huge, &keys(&["0"]), &values(16));
    let error = Weights::from_bytes("a.pth", bytes).err().unwrap();
    assert!(
        matches!(error, Error::Length { expected, .. } if expected > 1 << 34),
        "{error}"
    );
    let most = b"(X\x07\0\0\0storagectorch\nDoubleStorage\nX\x01\0\0\x000X\x03\0\0\0cpu\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fNtQ";
    let bytes = file(
        LITTLE,
        &state(most, 0, &[16], &[1]),
        &keys(&["0"]),
        &values(16),
    );
    let error = Weights::from_bytes("a.pth", bytes).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Length {
                expected: u64::MAX,
                ..
            }
        ),
        "{error}"
    );
    let negative = state(&storage("FloatStorage", "0", -1, b"N"), 0, &[16], &[1]);
    refused(one(&negative), "its storage 0 has no number of values");
}

#[test]
fn keys_that_do_not_exist_stand_twice_or_are_of_an_unknown_type_are_found() {
    let object = state(&plain(), 0, &[16], &[1]);
    let with = |list: &[&str]| file(LITTLE, &object, &keys(list), &values(16));
    refused(with(&["1"]), "its list of storages has \"1\"");
    refused(with(&["0", "0"]), "its list of storages has \"0\"");
    let nothing = file(LITTLE, &object, &keys(&[]), b"");
    refused(nothing, "w: its storage 0 is not in the file");
    let unknown = state(&storage("StrangeStorage", "0", 16, b"N"), 0, &[16], &[1]);
    refused(one(&unknown), "which nothing in its pickle names");
    for list in [&b"\x80\x02]K\x01a."[..], b"\x80\x02N."] {
        refused(file(LITTLE, &object, list, &values(16)), "storages");
    }
    // The same storage in two ways.
    let two = [
        &object[..object.len() - 1],
        &text("v")[..],
        &storage("IntStorage", "0", 16, b"N"),
        b"s.",
    ]
    .concat();
    refused(
        one(&two),
        "its storage 0 is 16 values of F32, and 16 of I32",
    );
}

#[test]
fn another_version_and_an_early_big_endian_file_give_a_true_reason() {
    let object = state(&plain(), 0, &[2], &[1]);
    let version = [MAGIC, b"\x80\x02M\xea\x03.", LITTLE, &object].concat();
    refused(version, "of version 1002, and 1001 is the only one known");
    let mut data = values(16);
    data[..8].reverse();
    let early = file(BIG, &object, &keys(&["0"]), &data);
    refused(early, "an early version of torch on a big-endian machine");
    // The number of values in the other order is a lie on any other machine.
    refused(
        file(LITTLE, &object, &keys(&["0"]), &data),
        "its pickle says 16",
    );
}

#[test]
fn nothing_is_run_and_a_whole_module_holds_no_state_dict() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let call = format!("cos\nsystem\n(S'touch {}'\ntR.", mark.display());
    refused(
        file(LITTLE, call.as_bytes(), &keys(&[]), b""),
        "holds no state dict",
    );
    // The pickles around the object are read by the same machine.
    refused(
        file(
            call.as_bytes(),
            &state(&plain(), 0, &[1], &[1]),
            &keys(&[]),
            b"",
        ),
        "not in the file",
    );
    refused(
        [MAGIC, call.as_bytes()].concat(),
        "does not say of which version",
    );
    assert!(!mark.exists());
    let module = b"\x80\x02(X\x06\0\0\0modulec__main__\nNet\nX\x06\0\0\0net.pyX\x04\0\0\0codetQ)\x81}X\x01\0\0\0wK\x01sb.";
    refused(file(LITTLE, module, &keys(&[]), b""), "holds no state dict");
}

#[test]
fn a_list_of_one_long_name_many_times_costs_no_more_than_the_file_allows() {
    let long = "9".repeat(200);
    let list = [
        &b"\x80\x02]("[..],
        &text(&long),
        b"q\0",
        &b"h\0".repeat(60_000),
        b"e.",
    ]
    .concat();
    let object = state(&plain(), 0, &[16], &[1]);
    refused(
        file(LITTLE, &object, &list, &values(16)),
        "more values than its size allows",
    );
    let long = "9".repeat(300);
    refused(
        file(LITTLE, &object, &keys(&[&long]), &values(16)),
        "something other than their names",
    );
}

#[test]
fn a_pickle_longer_than_what_is_read_first_is_read_whole() {
    // Notes of 100 KB before the tensor.
    let note = "x".repeat(100_000);
    let object = state(&plain(), 0, &[16], &[1]);
    let with_note = [
        b"\x80\x02}",
        &text("note")[..],
        &text(&note),
        b"s",
        &object[3..],
    ]
    .concat();
    // `}` ... `s` leaves the dictionary on the stack for the next pair.
    assert_eq!(read(one(&with_note)).len(), 16);
    let expected: BTreeMap<&str, usize> = [("w", 16)].into();
    let weights = Weights::from_bytes("a.pth", one(&with_note)).unwrap();
    let found = weights.tensors().iter();
    assert_eq!(
        found
            .map(|(name, info)| (name.as_str(), info.shape[0]))
            .collect::<BTreeMap<_, _>>(),
        expected
    );
}
