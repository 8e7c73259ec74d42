//! Picture sheets of a step: views, reconstructions, pairs, Grad-CAM.

use candle_core::Tensor;
use fgvr_data::{Normalisation, encode_png};
use fgvr_gradcam::{ColourMap, Sign, grad_cam_signed, overlay};
use fgvr_ssl::{Pictures, Shows};

use crate::{Error, Result};
use fgvr_report::{Sheet, SheetRow};

/// The sheets of a step as (name, PNG file), of its first `count` images; Grad-CAM only of encoders
/// whose features are the mean over places, since its gradient is that of the features.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn sheets(
    views: [&Tensor; 2],
    pictures: &Pictures,
    count: usize,
    normalisation: &Normalisation,
    pools_places: bool,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let count = count.min(pictures.x.dim(0)?);
    let shown = |images: &Tensor| -> Result<Vec<Tensor>> {
        let images = normalisation
            .undo(&images.narrow(0, 0, count)?)?
            .clamp(0., 1.)?;
        (0..count).map(|i| Ok(images.get(i)?)).collect()
    };
    let views = [shown(views[0])?, shown(views[1])?];
    let mut sheets = vec![(
        "views",
        sheet(&["view 1", "view 2"], &[&views[0], &views[1]])?,
    )];
    if pools_places {
        let columns = ["view 1", "lowers loss", "raises loss"];
        let lowers = overlays(&views[0], pictures, Sign::LowersLoss)?;
        let raises = overlays(&views[0], pictures, Sign::RaisesLoss)?;
        sheets.push(("gradcam", sheet(&columns, &[&views[0], &lowers, &raises])?));
    }
    if !pictures.maps.is_empty() {
        let (mut names, mut columns) = (vec!["view 1"], vec![views[0].clone()]);
        for (name, map) in &pictures.maps {
            let drawn = views[0].iter().enumerate();
            let drawn = drawn.map(|(i, image)| Ok(overlay(image, &map.get(i)?, ColourMap::Turbo)?));
            names.push(name);
            columns.push(drawn.collect::<Result<_>>()?);
        }
        let columns: Vec<_> = columns.iter().collect();
        sheets.push(("maps", sheet(&names, &columns)?));
    }
    for (name, columns) in &pictures.sheets {
        let of = |name: &str| match pictures.images(name) {
            Some(images) => shown(images),
            None => Err(Error::config(name, "no add-on made images of this name")),
        };
        let captions: Vec<_> = columns.iter().map(|column| column.caption).collect();
        let columns = columns.iter().map(|column| match column.shows {
            Shows::View => Ok(views[0].clone()),
            Shows::Images(name) => of(name),
            Shows::Difference([a, b]) => {
                let pairs = of(a)?.into_iter().zip(of(b)?);
                let around_grey =
                    |(a, b): (Tensor, Tensor)| Ok((((a - b)? * 2.)? + 0.5)?.clamp(0., 1.)?);
                pairs.map(around_grey).collect()
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        sheets.push((name, sheet(&captions, &columns.iter().collect::<Vec<_>>())?));
    }
    Ok(sheets)
}

/// Grad-CAM over the first view: the gradient at the map is that at its mean, spread over places.
fn overlays(images: &[Tensor], pictures: &Pictures, sign: Sign) -> Result<Vec<Tensor>> {
    let count = images.len();
    let map = pictures.map.narrow(0, 0, count)?;
    let (_, _, h, w) = map.dims4()?;
    let gradient = pictures
        .gradient
        .narrow(0, 0, count)?
        .unsqueeze(2)?
        .unsqueeze(3)?; // (n, C, 1, 1)
    let gradient = (gradient.broadcast_as(map.shape())? / (h * w) as f64)?;
    let cams = grad_cam_signed(&map, &gradient, sign)?;
    let drawn = images.iter().enumerate();
    drawn
        .map(|(i, image)| Ok(overlay(image, &cams.get(i)?, ColourMap::Turbo)?))
        .collect()
}

/// Columns of images as a PNG file.
fn sheet(captions: &[&str], columns: &[&Vec<Tensor>]) -> Result<Vec<u8>> {
    let rows = (0..columns[0].len())
        .map(|i| SheetRow {
            label: String::new(),
            images: columns.iter().map(|column| column[i].clone()).collect(),
        })
        .collect();
    let sheet = Sheet {
        columns: captions.iter().map(|c| (*c).to_owned()).collect(),
        rows,
        ..Sheet::default()
    };
    Ok(encode_png(&sheet.draw()?.to_tensor()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use fgvr_ssl::Column;

    const COLUMNS: [Column; 3] = [
        Column {
            caption: "x",
            shows: Shows::View,
        },
        Column {
            caption: "made",
            shows: Shows::Images("made"),
        },
        Column {
            caption: "difference",
            shows: Shows::Difference(["made", "other"]),
        },
    ];

    /// A step's pictures whose features, gradient and images are all `value`.
    fn pictures(value: f32) -> (Tensor, Pictures) {
        let full = |shape: &[usize]| Tensor::full(value, shape, &Device::Cpu).unwrap();
        let x = Tensor::zeros((2, 3, 16, 16), candle_core::DType::F32, &Device::Cpu).unwrap();
        let pictures = Pictures {
            x: x.clone(),
            map: full(&[2, 4, 2, 2]),
            gradient: full(&[2, 4]),
            maps: vec![("somewhere", full(&[2, 2, 2]))],
            masks: Vec::new(),
            images: vec![("made", full(&[2, 3, 16, 16])), ("other", x.clone())],
            sheets: vec![("pairs", &COLUMNS)],
        };
        (x, pictures)
    }

    #[test]
    fn every_sheet_of_a_step_is_drawn() {
        let (x, pictures) = pictures(0.5);
        let drawn = sheets([&x, &x], &pictures, 8, &Normalisation::imagenet(), true).unwrap();
        let names: Vec<_> = drawn.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["views", "gradcam", "maps", "pairs"]);
        assert!(drawn.iter().all(|(_, png)| png.starts_with(b"\x89PNG")));
    }

    #[test]
    fn a_map_that_is_not_finite_is_an_error_and_no_panic() {
        for value in [f32::NAN, f32::INFINITY] {
            let (x, pictures) = pictures(value);
            let error = sheets([&x, &x], &pictures, 8, &Normalisation::imagenet(), true)
                .unwrap_err()
                .to_string();
            assert!(error.contains("finite"), "{error}");
        }
    }
}
