//! What an accumulator has gathered, in a safetensors file, to go on from there: all sums in f64, and the rows that wait
//! for their block to fill.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::scatter::Scatter;
use super::symmetric_sum::{OuterProducts, SymmetricSum};
use super::{AdaptError, NuisanceCovariance};

const FORMAT: &str = "fgvr-nuisance-sums";
const VERSION: &str = "1";

impl NuisanceCovariance {
    /// Writes everything gathered so far to a new file at `path`, or over the one there. An accumulator that is
    /// [loaded](Self::load) from it goes on to the same bits as this one.
    ///
    /// # Errors
    /// [`AdaptError::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), AdaptError> {
        let path = path.as_ref();
        let io = |source| AdaptError::Io {
            file: path.into(),
            source,
        };
        let bytes = self
            .to_bytes()
            .map_err(|error| io(std::io::Error::other(error)))?;
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(io)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`AdaptError::Io`] where it cannot be read, [`AdaptError::File`] where it holds something else or is damaged.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, AdaptError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| AdaptError::Io {
            file: path.into(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|found| AdaptError::File {
            file: path.into(),
            found,
            expected: "the sums of a nuisance covariance, whole".to_owned(),
        })
    }

    fn to_bytes(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let f64s = |values: &[f64]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let rows: Vec<u8> = self
            .plain
            .pending()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let parts = [
            ("within", f64s(&self.within.sum().values())),
            ("within_pending", f64s(self.within.pending())),
            ("plain", f64s(&self.plain.sum().values())),
            ("plain_mean", f64s(self.plain.mean())),
        ];
        let view =
            |kind, size, bytes| TensorView::new(kind, vec![<[u8]>::len(bytes) / size], bytes);
        let mut tensors = vec![("plain_pending", view(Dtype::F32, 4, &rows)?)];
        for (name, bytes) in &parts {
            tensors.push((name, view(Dtype::F64, 8, bytes)?));
        }
        let numbers = [
            ("width", self.width),
            ("images", self.images),
            ("views", self.views),
            ("plain_count", self.plain.whole_blocks()),
        ];
        let mut about: HashMap<String, String> = numbers
            .iter()
            .map(|(name, number)| ((*name).to_owned(), number.to_string()))
            .collect();
        about.insert("format".to_owned(), FORMAT.to_owned());
        about.insert("version".to_owned(), VERSION.to_owned());
        safetensors::serialize(tensors, Some(about))
    }

    /// Or what was found in place of it.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let about = header.metadata().clone().unwrap_or_default();
        let said = |name: &str| about.get(name).map_or("", String::as_str);
        if (said("format"), said("version")) != (FORMAT, VERSION) {
            return Err(format!(
                "format {:?}, version {:?}",
                said("format"),
                said("version")
            ));
        }
        let number = |name: &str| -> Result<usize, String> {
            let text = said(name);
            text.parse().map_err(|_| format!("{name} {text:?}"))
        };
        let width = number("width")?;
        if width == 0 || width > 1 << 20 {
            return Err(format!("width {width}"));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let data = |name: &str, kind: Dtype| -> Result<Vec<u8>, String> {
            let tensor = tensors.tensor(name).map_err(|error| error.to_string())?;
            match tensor.dtype() == kind {
                true => Ok(tensor.data().to_vec()),
                false => Err(format!("{name} of type {:?}", tensor.dtype())),
            }
        };
        let f64s = |name: &str| -> Result<Vec<f64>, String> {
            let bytes = data(name, Dtype::F64)?;
            let (values, _) = bytes.as_chunks::<8>();
            Ok(values.iter().map(|b| f64::from_le_bytes(*b)).collect())
        };
        let sum = |name: &str| -> Result<SymmetricSum, String> {
            let values = f64s(name)?;
            let found = values.len();
            SymmetricSum::of_values(width, &values)
                .ok_or_else(|| format!("{found} values of {name} for width {width}"))
        };
        let whole = |name: &str, found: usize| match found.is_multiple_of(width) {
            true => Ok(()),
            false => Err(format!("{found} values of {name} for width {width}")),
        };
        let within_pending = f64s("within_pending")?;
        whole("within_pending", within_pending.len())?;
        let rows = data("plain_pending", Dtype::F32)?;
        let (rows, _) = rows.as_chunks::<4>();
        let plain_pending: Vec<f32> = rows.iter().map(|b| f32::from_le_bytes(*b)).collect();
        whole("plain_pending", plain_pending.len())?;
        let mean = f64s("plain_mean")?;
        if mean.len() != width {
            return Err(format!(
                "{} values of plain_mean for width {width}",
                mean.len()
            ));
        }
        Ok(Self {
            width,
            images: number("images")?,
            views: number("views")?,
            within: OuterProducts::of(sum("within")?, within_pending),
            plain: Scatter::of(number("plain_count")?, mean, sum("plain")?, plain_pending),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(n: usize, width: usize, phase: f32) -> Vec<f32> {
        (0..n * width)
            .map(|i| ((i * 37 % 101) as f32 * 0.3 + phase).sin() + (i % width) as f32)
            .collect()
    }

    #[test]
    fn an_accumulator_goes_on_from_its_file_to_the_same_bits() {
        // Over several blocks of rows and several tiles.
        let (width, n) = (300, 700);
        let (plain, views) = (features(n, width, 0.), features(2 * n, width, 1.));
        let mut whole = NuisanceCovariance::new(width).unwrap();
        whole.add_plain(&plain).unwrap();
        whole.add_views(&views, 2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sums.safetensors");
        for cut in [0, 1, 511, 600] {
            let mut part = NuisanceCovariance::new(width).unwrap();
            if cut > 0 {
                part.add_plain(&plain[..cut * width]).unwrap();
                part.add_views(&views[..2 * cut * width], 2).unwrap();
            }
            part.save(&path).unwrap();
            let mut part = NuisanceCovariance::load(&path).unwrap();
            part.add_plain(&plain[cut * width..]).unwrap();
            part.add_views(&views[2 * cut * width..], 2).unwrap();
            assert_eq!((part.images(), part.views()), (n, 2 * n));
            assert_eq!(part.within().unwrap(), whole.within().unwrap(), "{cut}");
            assert_eq!(
                part.mean_and_total().unwrap(),
                whole.mean_and_total().unwrap(),
                "{cut}"
            );
        }
        let bytes = fs::read(&path).unwrap();
        for cut in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            let error = NuisanceCovariance::load(&path).unwrap_err().to_string();
            assert!(error.contains("expected the sums"), "{error}");
        }
    }
}
