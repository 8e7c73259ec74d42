//! Features of photos in a file that other programs read: NumPy's npz, safetensors or CSV.

use std::io::{BufWriter, Seek, Write};
use std::path::Path;
use std::str::FromStr;

use fgvr_data::{Existing, can_hold_files, write_whole};
use safetensors::tensor::{Dtype, TensorView};

use crate::until_failure::UntilFailure;
use crate::{Error, Result};

/// Features of photos, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingTable {
    /// (N, C), row by row.
    pub features: Vec<f32>,
    /// C.
    pub width: usize,
    /// The photo of each row, as the data set names it.
    pub paths: Vec<String>,
    /// `train`, `val` or `test`.
    pub splits: Vec<&'static str>,
    /// The class of each row, a position in `classes`; -1 without one.
    pub labels: Vec<i64>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Where the features were computed.
    pub device: String,
    /// What the features were transformed by, in words; `None` for features as the encoder gave them.
    pub adaptation: Option<String>,
}

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Arrays `features` (N, C), `labels` (N), `paths` (N), `splits` (N), `classes`, and `adaptation`, one text (`none`
    /// without one), for `numpy.load`.
    Npz,
    /// Tensors `features` and `labels`; `paths`, `splits`, `classes`, `device` and `adaptation` as JSON in the metadata.
    Safetensors,
    /// A row per photo: path, split, label, class, f0, f1, ...; adapted features are a0, a1, ...
    Csv,
}

impl FromStr for TableFormat {
    type Err = Error;

    /// By the extension of the file called `name`.
    fn from_str(name: &str) -> Result<Self> {
        let extension = Path::new(name).extension().unwrap_or_default();
        match extension.to_string_lossy().to_ascii_lowercase().as_str() {
            "npz" => Ok(Self::Npz),
            "safetensors" => Ok(Self::Safetensors),
            "csv" => Ok(Self::Csv),
            found => Err(Error::config(
                name,
                format!("expected a name that ends in .npz, .safetensors or .csv, found {found:?}"),
            )),
        }
    }
}

impl EmbeddingTable {
    /// Whether a table may be written to `path`: worth knowing before photos are embedded.
    ///
    /// # Errors
    /// It exists and may not be replaced, its folder does not or takes no files, or its extension is none of ours.
    pub fn check_place(path: &Path, replace: bool) -> Result<()> {
        path.to_string_lossy().parse::<TableFormat>()?;
        let problem = |problem: &str| Err(Error::config(path.display().to_string(), problem));
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        if !replace && path.symlink_metadata().is_ok() {
            return problem(
                "exists already and is not overwritten; choose another --out, or say --overwrite",
            );
        }
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return problem("is there and is no file, and is not replaced; choose another --out");
        }
        if !parent.is_dir() {
            return problem("its folder does not exist; make it first, or choose another --out");
        }
        match can_hold_files(parent) {
            Ok(()) => Ok(()),
            Err(error) => problem(&format!("cannot be made ({error}); choose another --out")),
        }
    }

    /// Writes the table aside and renames it into place.
    ///
    /// # Errors
    /// A file that is there (unless it may be `replaced`) or cannot be written.
    pub fn write(&self, path: &Path, replace: bool) -> Result<()> {
        let format: TableFormat = path.to_string_lossy().parse()?;
        Self::check_place(path, replace)?;
        let existing = match replace {
            true => Existing::Replace,
            false => Existing::Keep,
        };
        write_whole(path, existing, |file| {
            let mut file = BufWriter::new(file);
            match format {
                TableFormat::Npz => self.npz(&mut file),
                TableFormat::Safetensors => self.safetensors(&mut file),
                TableFormat::Csv => self.csv(&mut file),
            }?;
            file.flush()
        })
        .map(drop)
        .map_err(Error::io(path))
    }

    fn npz(&self, file: &mut (impl Write + Seek)) -> std::io::Result<()> {
        let mut archive = zip::ZipWriter::new(UntilFailure::new(file));
        // Stored: features hardly compress, and numpy maps nothing either way.
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(true);
        let mut add = |name: &str, header: String, bytes: &[u8]| -> std::io::Result<()> {
            archive
                .start_file(format!("{name}.npy"), options)
                .map_err(std::io::Error::other)?;
            archive.write_all(&npy_header(&header))?;
            archive.write_all(bytes)
        };
        let rows = self.paths.len();
        let features: Vec<u8> = self.features.iter().flat_map(|v| v.to_le_bytes()).collect();
        add("features", array("<f4", &[rows, self.width]), &features)?;
        let labels: Vec<u8> = self.labels.iter().flat_map(|v| v.to_le_bytes()).collect();
        add("labels", array("<i8", &[rows]), &labels)?;
        let splits: Vec<String> = self.splits.iter().map(ToString::to_string).collect();
        let adaptation = self.adaptation.clone();
        let adaptation = vec![adaptation.unwrap_or_else(|| "none".to_owned())];
        for (name, texts) in [
            ("paths", &self.paths),
            ("splits", &splits),
            ("classes", &self.classes),
            ("adaptation", &adaptation),
        ] {
            let (width, bytes) = utf32(texts);
            add(name, array(&format!("<U{width}"), &[texts.len()]), &bytes)?;
        }
        archive.finish().map(drop).map_err(std::io::Error::other)
    }

    fn safetensors(&self, file: &mut impl Write) -> std::io::Result<()> {
        let rows = self.paths.len();
        let features: Vec<u8> = self.features.iter().flat_map(|v| v.to_le_bytes()).collect();
        let labels: Vec<u8> = self.labels.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = |dtype, shape: Vec<usize>, bytes| {
            TensorView::new(dtype, shape, bytes).map_err(std::io::Error::other)
        };
        let tensors = [
            (
                "features",
                view(Dtype::F32, vec![rows, self.width], &features)?,
            ),
            ("labels", view(Dtype::I64, vec![rows], &labels)?),
        ];
        // One key: the order of several in the header is nobody's.
        let about = serde_json::json!({
            "paths": self.paths, "splits": self.splits, "classes": self.classes, "device": self.device,
            "adaptation": self.adaptation,
        });
        let metadata = [("fgvr".to_owned(), about.to_string())].into();
        let bytes =
            safetensors::serialize(tensors, Some(metadata)).map_err(std::io::Error::other)?;
        file.write_all(&bytes)
    }

    fn csv(&self, file: &mut impl Write) -> std::io::Result<()> {
        let mut table = csv::Writer::from_writer(file);
        let letter = match self.adaptation {
            Some(_) => 'a',
            None => 'f',
        };
        let columns = (0..self.width).map(|i| format!("{letter}{i}"));
        let head = ["path", "split", "label", "class"].map(str::to_owned);
        table.write_record(head.into_iter().chain(columns))?;
        let rows = self.features.chunks_exact(self.width.max(1));
        for (i, features) in rows.enumerate() {
            let label = self.labels[i];
            let class = usize::try_from(label)
                .ok()
                .and_then(|label| self.classes.get(label));
            let (label, class) = match class {
                Some(class) => (label.to_string(), class.clone()),
                None => (String::new(), String::new()),
            };
            let head = [
                self.paths[i].clone(),
                self.splits[i].to_owned(),
                label,
                class,
            ];
            table.write_record(head.into_iter().chain(features.iter().map(f32::to_string)))?;
        }
        table.flush()
    }
}

/// The dictionary of a `.npy` header.
fn array(kind: &str, shape: &[usize]) -> String {
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sides}), }}")
}

/// Version 1.0 of NumPy's format: magic, version, length, then the dictionary padded with spaces so
/// that the values start at a multiple of 64.
fn npy_header(dictionary: &str) -> Vec<u8> {
    let mut text = dictionary.as_bytes().to_vec();
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.resize(length - 1, b' ');
    text.push(b'\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    // Our dictionaries are far below 64 KiB.
    header.extend((length as u16).to_le_bytes());
    header.extend(text);
    header
}

/// Texts as NumPy's fixed-width UTF-32: the widest's characters, and the bytes.
fn utf32(texts: &[String]) -> (usize, Vec<u8>) {
    let width = texts.iter().map(|text| text.chars().count()).max();
    let width = width.unwrap_or(0).max(1);
    let mut bytes = Vec::with_capacity(texts.len() * width * 4);
    for text in texts {
        let end = bytes.len() + width * 4;
        bytes.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        bytes.resize(end, 0);
    }
    (width, bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn table() -> EmbeddingTable {
        EmbeddingTable {
            features: vec![1., 2.5, -3., 0.25],
            width: 2,
            paths: vec!["a/ü.jpg".to_owned(), "b, c.png".to_owned()],
            splits: vec!["train", "test"],
            labels: vec![1, -1],
            classes: vec!["x".to_owned(), "yy".to_owned()],
            device: "cpu".to_owned(),
            adaptation: None,
        }
    }

    #[test]
    fn a_csv_row_has_path_label_and_features() {
        let mut bytes = Vec::new();
        table().csv(&mut bytes).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "path,split,label,class,f0,f1\na/ü.jpg,train,1,yy,1,2.5\n\"b, c.png\",test,,,-3,0.25\n"
        );
    }

    #[test]
    fn an_npz_holds_numpy_arrays_on_64_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npz");
        table().write(&path, false).unwrap();
        let mut archive = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
        let mut read = |name: &str| {
            let mut bytes = Vec::new();
            archive
                .by_name(name)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        };
        let features = read("features.npy");
        assert!(features.starts_with(b"\x93NUMPY\x01\x00"));
        let header = 10 + usize::from(u16::from_le_bytes([features[8], features[9]]));
        assert_eq!(header % 64, 0);
        let text = String::from_utf8_lossy(&features[10..header]);
        assert!(
            text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, ), }"),
            "{text}"
        );
        assert_eq!(features[header..header + 4], 1f32.to_le_bytes());
        let paths = read("paths.npy");
        assert!(String::from_utf8_lossy(&paths[10..80]).contains("'<U8'"));
        assert_eq!(paths.len() % 64, 2 * 8 * 4 % 64);
    }

    #[test]
    fn an_archive_that_is_cut_short_anywhere_is_an_error_and_no_panic() {
        /// A disk with room for so many bytes.
        struct Small(std::io::Cursor<Vec<u8>>, usize);
        impl Write for Small {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                if self.0.position() as usize + bytes.len() > self.1 {
                    return Err(std::io::ErrorKind::StorageFull.into());
                }
                self.0.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Small {
            fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
                self.0.seek(to)
            }
        }
        let mut whole = std::io::Cursor::new(Vec::new());
        table().npz(&mut whole).unwrap();
        let whole = whole.into_inner().len();
        for room in 0..whole {
            let mut disk = Small(std::io::Cursor::default(), room);
            let error = table().npz(&mut disk).unwrap_err();
            assert!(
                error.to_string().contains("no storage space"),
                "{room}: {error}"
            );
        }
        let mut disk = Small(std::io::Cursor::default(), whole);
        table().npz(&mut disk).unwrap();
    }

    #[test]
    fn safetensors_read_back() {
        let mut bytes = Vec::new();
        table().safetensors(&mut bytes).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("features").unwrap().shape(), [2, 2]);
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let about = &header.metadata().as_ref().unwrap()["fgvr"];
        assert!(about.contains("a/ü.jpg"), "{about}");
        assert!(about.contains("\"device\":\"cpu\""), "{about}");
    }

    #[test]
    fn nothing_is_overwritten_unasked_and_endings_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.csv");
        table().write(&path, false).unwrap();
        let error = table().write(&path, false).unwrap_err().to_string();
        assert!(error.contains("--overwrite"), "{error}");
        table().write(&path, true).unwrap();
        let error = table()
            .write(&folder.path().join("e.txt"), false)
            .unwrap_err();
        assert!(error.to_string().contains(".npz"), "{error}");
        let error = table().write(&folder.path().join("no/e.csv"), false);
        assert!(error.unwrap_err().to_string().contains("folder"));
    }
}
