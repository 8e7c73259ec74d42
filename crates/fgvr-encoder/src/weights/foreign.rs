//! Files that are no weights, or those of another program: what they are, and what to do.

use crate::Error;
use crate::text::shortened;
use crate::weights::file::StoredFile;

/// Characters of a text that are shown.
const SHOWN: usize = 60;

/// What a file is, and what to do about it.
struct Foreign {
    found: String,
    advice: &'static str,
}

const AGAIN: &str = "fetch the file again, and compare its length with the one stated there";
const PAGE: &str = "open the address in a browser: it asks to log in, or the file is not there; then fetch \
                    the file itself (on the Hub: hf:owner/name)";
const ANSWER: &str = "a server gave it in place of the file, or it lies beside the weights; name the file of the weights";
const UNPACK: &str = "unpack it, and name the file of weights in it";
const OTHER: &str =
    "look for the same network as safetensors or as a PyTorch file, or convert it in Python";
const RESAVE: &str = "load it in Python, and save its tensors with torch.save or safetensors";
const EXPECTED: &str = "expected a safetensors file or one that torch.save wrote";

/// Signatures: where they stand, what they are, what such a file is, and what to do.
const SIGNATURES: &[(usize, &[u8], &str, &str)] = &[
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, such as Keras writes",
        OTHER,
    ),
    (0, b"GGUF", "a GGUF file, such as llama.cpp reads", OTHER),
    (4, b"TFL3", "a TensorFlow Lite file", OTHER),
    (0, b"\x93NUMPY", "an array of NumPy", RESAVE),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (0, b"\x89PNG\r\n\x1a\n", "a picture (PNG)", EXPECTED),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", EXPECTED),
    (0, b"GIF8", "a picture (GIF)", EXPECTED),
    (8, b"WEBP", "a picture (WebP)", EXPECTED),
    (0, b"II*\0", "a picture (TIFF)", EXPECTED),
    (0, b"MM\0*", "a picture (TIFF)", EXPECTED),
    (
        4,
        b"ftyp",
        "a picture or film (HEIF, AVIF or MP4)",
        EXPECTED,
    ),
    (0, b"%PDF-", "a PDF document", EXPECTED),
    (0, b"\x7fELF", "a program (ELF)", EXPECTED),
];

/// Names of files whose bytes alone do not say what they are.
const ENDINGS: &[(&str, &str)] = &[
    (".onnx", "an ONNX file"),
    (".pb", "a graph of TensorFlow"),
    (".tflite", "a TensorFlow Lite file"),
    (".msgpack", "a Flax file"),
    (".caffemodel", "a Caffe file"),
    (".mlmodel", "a Core ML file"),
    (".params", "an MXNet file"),
    (".engine", "a TensorRT engine"),
    (".plan", "a TensorRT engine"),
    (".index", "the index of a TensorFlow checkpoint"),
];

/// The error for `file`, which begins with `start`, if it is none that can be read.
pub(crate) fn file(file: &StoredFile, start: &[u8]) -> Option<Error> {
    let path = file.info.path.clone();
    if start.starts_with(b"version https://git-lfs") {
        return Some(Error::LfsPointer { file: path });
    }
    // As short as that, or with a brace there, it may be safetensors that are cut or damaged.
    let may_be_header = start.get(8).is_none_or(|byte| *byte == b'{');
    let Foreign { found, advice } = by_bytes(start).or_else(|| match may_be_header {
        true => None,
        false => by_name(&path.to_string_lossy()).or_else(|| Some(unknown(start))),
    })?;
    Some(Error::NotWeights {
        file: path,
        found,
        advice,
    })
}

/// The error for a zip archive with the records `names`, which is no file of `torch.save`.
pub(crate) fn zip_of<'a>(file: &StoredFile, names: impl Iterator<Item = &'a String>) -> Error {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let ends = |endings: &[&str]| {
        let mut names = names.iter();
        names.find(|name| endings.iter().any(|ending| name.ends_with(ending)))
    };
    let weights = [".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar"];
    let pickles = names.iter().filter(|name| name.ends_with("data.pkl"));
    let (found, advice) = if pickles.count() > 1 {
        (
            "a zip archive with several records data.pkl".to_owned(),
            EXPECTED,
        )
    } else if names.contains(&"model.weights.h5") {
        ("a Keras model".to_owned(), OTHER)
    } else if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        ("arrays of NumPy".to_owned(), RESAVE)
    } else if let Some(name) = ends(&weights) {
        (format!("a zip archive with {} in it", brief(name)), UNPACK)
    } else if let Some(name) = names.first() {
        let count = names.len();
        let found = format!(
            "a zip archive of {count} files ({}, ...) without data.pkl",
            brief(name)
        );
        (found, EXPECTED)
    } else {
        ("an empty zip archive".to_owned(), AGAIN)
    };
    Error::NotWeights {
        file: file.info.path.clone(),
        found,
        advice,
    }
}

/// What `start` begins, if it is neither JSON nor weights; for what was expected to be JSON.
pub(crate) fn not_json(start: &[u8]) -> Option<String> {
    if start.starts_with(b"version https://git-lfs") {
        return Some("a Git LFS pointer, not the file; fetch it with `git lfs pull`".to_owned());
    }
    let looks_like_json = matches!(start.trim_ascii_start().first(), Some(b'{' | b'['));
    let Foreign { found, advice } = by_bytes(start).filter(|_| !looks_like_json)?;
    let advice = if advice == PAGE {
        PAGE
    } else {
        "expected JSON"
    };
    Some(format!("{found}; {advice}"))
}

fn by_bytes(start: &[u8]) -> Option<Foreign> {
    let plain = |found: &str, advice| {
        Some(Foreign {
            found: found.to_owned(),
            advice,
        })
    };
    if start.is_empty() {
        return plain("an empty file", AGAIN);
    }
    if start.len() >= 64 && start.iter().all(|byte| *byte == 0) {
        return plain("zeros, such as an unfinished download leaves", AGAIN);
    }
    for (at, signature, found, advice) in SIGNATURES {
        let here = start.get(*at..).unwrap_or_default();
        if here.starts_with(signature) {
            return plain(found, advice);
        }
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(tar(start));
    }
    if start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]) {
        return plain("a picture (BMP)", EXPECTED);
    }
    if let [0x80, 2..=5, ..] = start {
        return plain("a pickle that torch.save did not write", RESAVE);
    }
    // Protocol buffers: version 1 and a graph for TensorFlow, a version and what made it for ONNX.
    match start {
        [0x08, 1, 0x12, ..] => return plain("a model of TensorFlow", OTHER),
        [0x08, 2..=30, 0x12, ..] => return plain("an ONNX file", OTHER),
        _ => {}
    }
    text(start)
}

/// A tar archive: torch's before 0.1.10, or anyone's.
fn tar(start: &[u8]) -> Foreign {
    let name = start.split(|byte| *byte == 0).next().unwrap_or_default();
    match name {
        b"sys_info" | b"pickle" | b"tensors" | b"storages" => Foreign {
            found:
                "a tar archive as torch.save wrote before torch 0.1.10, which no later torch reads \
                    safely and which is not read here"
                    .to_owned(),
            advice: "load it in Python with torch.load(FILE, weights_only=False), if you trust it, and save \
                     its tensors with torch.save",
        },
        name => Foreign {
            found: format!(
                "a tar archive (first in it is {})",
                brief(&String::from_utf8_lossy(name))
            ),
            advice: UNPACK,
        },
    }
}

/// Something that people or web servers write.
fn text(start: &[u8]) -> Option<Foreign> {
    let shown = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let shown = shown.trim_ascii_start();
    let begins = |tag: &str| {
        let here = shown.get(..tag.len());
        here.is_some_and(|here| here.eq_ignore_ascii_case(tag.as_bytes()))
    };
    let whole = String::from_utf8_lossy(shown);
    let page = ["<!doctype html", "<html", "<head", "<body", "<script"];
    let markup = begins("<?xml") || begins("<!--");
    if page.iter().any(|tag| begins(tag)) || markup && whole.to_lowercase().contains("<html") {
        let title = title(&whole).map_or(String::new(), |title| format!(" titled {title:?}"));
        return Some(Foreign {
            found: format!("an HTML page{title}"),
            advice: PAGE,
        });
    }
    let control = |byte: &u8| *byte < 0x20 && !b"\t\n\r\x0c".contains(byte) || *byte == 0x7f;
    if shown.is_empty()
        || shown.iter().any(control)
        || std::str::from_utf8(shown).is_err_and(|e| e.error_len().is_some())
    {
        return None;
    }
    // On one line and without control characters: nothing to escape.
    let start = shortened(&whole, SHOWN);
    let (found, advice) = match shown[0] {
        b'<' => (format!("a document of XML that begins {start}"), ANSWER),
        b'{' | b'[' => (format!("JSON that begins {start}"), ANSWER),
        _ => (format!("text that begins \"{start}\""), EXPECTED),
    };
    Some(Foreign { found, advice })
}

/// What stands between `<title>` and `</title>`.
fn title(page: &str) -> Option<String> {
    // The same length: only ASCII letters change.
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = shortened(&page[start..end], SHOWN);
    (!title.is_empty()).then_some(title)
}

fn by_name(name: &str) -> Option<Foreign> {
    let name = name.to_ascii_lowercase();
    let (_, found) = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending))?;
    Some(Foreign {
        found: format!("{found} by its name"),
        advice: OTHER,
    })
}

/// Bytes of no known signature.
fn unknown(start: &[u8]) -> Foreign {
    let first: Vec<String> = start
        .iter()
        .take(9)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Foreign {
        found: format!(
            "a file of an unknown kind (it begins with the bytes {})",
            first.join(" ")
        ),
        advice: EXPECTED,
    }
}

/// The beginning of a text in quotes.
fn brief(text: &str) -> String {
    format!("{:?}", shortened(text, SHOWN))
}
