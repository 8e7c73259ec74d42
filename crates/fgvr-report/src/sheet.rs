//! Contact sheets: rows of small images with captions, enlarged so that they are easy to see.

use candle_core::{DType, Device, Tensor};

use super::ReportError;
use super::font;
use super::table::wrap;

/// A picture as RGB bytes, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbSheet {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

/// One row of a sheet.
#[derive(Clone, Debug)]
pub struct SheetRow {
    /// Text left of the row; may be empty.
    pub label: String,
    /// The images, each (3, H, W) with values in [0, 1]; values beyond are clamped.
    pub images: Vec<Tensor>,
}

/// Rows of equally large images under the captions of their columns.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Captions of the columns; may be empty.
    pub columns: Vec<String>,
    /// The rows, all with as many images as there are captions, or as the first row where there
    /// are none.
    pub rows: Vec<SheetRow>,
    /// Each pixel of an image becomes a square of this side; `None` takes the smallest whole number
    /// that makes the images at least 128 pixels wide.
    pub scale: Option<usize>,
}

const BACKGROUND: u8 = 255;
const INK: u8 = 28;
/// Space between images and around the sheet, in pixels.
const GAP: usize = 8;
/// Letters are enlarged by this.
const TEXT: usize = 2;
const LETTER: usize = (font::WIDTH + 1) * TEXT;
const LINE: usize = (font::HEIGHT + font::DESCENT + 2) * TEXT;
/// A row label wraps at this many letters.
const LABEL: usize = 14;
/// A caption's word of up to so many letters is not broken.
const LONGEST_WORD: usize = 16;
const SHORTEST_SIDE: usize = 128;
/// Sheets larger than this on a side are refused: no viewer shows them.
const LONGEST_SIDE: usize = 32_768;

impl Sheet {
    /// Draws the sheet.
    ///
    /// # Errors
    /// When there is no image, a row has another number of images than the others, an image has
    /// another shape than the first, or the sheet would be more than 32768 pixels on a side.
    pub fn draw(&self) -> Result<RgbSheet, ReportError> {
        let first = self.rows.iter().flat_map(|row| &row.images).next();
        let first = first.ok_or_else(|| mismatch("images", "at least one", "none"))?;
        let (_, h, w) = first.dims3()?;
        let count = if self.columns.is_empty() {
            self.rows[0].images.len()
        } else {
            self.columns.len()
        };
        for (index, row) in self.rows.iter().enumerate() {
            if row.images.len() != count {
                let what = format!("row {index} ({:?})", row.label);
                let found = format!("{} images", row.images.len());
                return Err(mismatch(&what, format!("{count} images"), found));
            }
            for (column, image) in row.images.iter().enumerate() {
                if image.dims() != [3, h, w] {
                    let what = format!("image {column} of row {index}");
                    return Err(mismatch(
                        &what,
                        format!("[3, {h}, {w}]"),
                        format!("{:?}", image.dims()),
                    ));
                }
            }
        }
        if h == 0 || w == 0 || self.scale == Some(0) {
            let found = format!("{h} x {w} at scale {:?}", self.scale);
            return Err(mismatch(
                "images",
                "at least one pixel at a scale of at least 1",
                found,
            ));
        }
        let scale = self.scale.unwrap_or(SHORTEST_SIDE.div_ceil(w));
        let (cell_w, cell_h) = (w.saturating_mul(scale), h.saturating_mul(scale));

        // Columns stand apart far enough that no word of a caption is broken, short of a very long one.
        let words = self
            .columns
            .iter()
            .flat_map(|caption| caption.split_whitespace());
        let longest = words.map(|word| word.chars().count()).max().unwrap_or(0);
        let column_w = cell_w.max((longest.min(LONGEST_WORD) + 1) * LETTER);
        let captions: Vec<Vec<String>> = self
            .columns
            .iter()
            .map(|caption| wrap(caption, (column_w + GAP) / LETTER - 1))
            .collect();
        let labels: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| wrap(&row.label, LABEL))
            .collect();
        let letters = labels
            .iter()
            .flatten()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0);
        let left = if letters == 0 {
            GAP
        } else {
            2 * GAP + letters * LETTER
        };
        let lines = captions.iter().map(Vec::len).max().unwrap_or(0);
        let top = GAP + lines * LINE;
        // A row is at least as high as its label.
        let row_h = labels
            .iter()
            .map(|lines| lines.len() * LINE)
            .max()
            .unwrap_or(0)
            .max(cell_h);

        let width = column_w
            .saturating_add(GAP)
            .saturating_mul(count)
            .saturating_add(left);
        let height = row_h
            .saturating_add(GAP)
            .saturating_mul(self.rows.len())
            .saturating_add(top);
        if width.max(height) > LONGEST_SIDE {
            let limit = format!("at most {LONGEST_SIDE} pixels on a side");
            return Err(mismatch("size", limit, format!("{width} x {height}")));
        }
        let mut sheet = RgbSheet {
            width,
            height,
            pixels: vec![BACKGROUND; width * height * 3],
        };
        for (column, lines) in captions.iter().enumerate() {
            // Captions stand on their images, so a short one ends where a long one does.
            let at = top - lines.len() * LINE;
            sheet.text(left + column * (column_w + GAP), at, lines);
        }
        for (index, (row, label)) in self.rows.iter().zip(&labels).enumerate() {
            let y = top + index * (row_h + GAP);
            sheet.text(GAP, y + (row_h - label.len() * LINE) / 2, label);
            for (column, image) in row.images.iter().enumerate() {
                let image = image.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
                // (3, H, W) -> (3*H*W)
                let values: Vec<f32> = image.flatten_all()?.to_vec1()?;
                let at = (left + column * (column_w + GAP), y + (row_h - cell_h) / 2);
                sheet.image(at, (h, w), scale, &values);
            }
        }
        Ok(sheet)
    }
}

impl RgbSheet {
    /// The sheet as a tensor (3, H, W) with values in [0, 1].
    ///
    /// # Errors
    /// When candle fails.
    pub fn to_tensor(&self) -> candle_core::Result<Tensor> {
        let values: Vec<f32> = self
            .pixels
            .iter()
            .map(|&byte| f32::from(byte) / 255.0)
            .collect();
        // (H*W*3) -> (H, W, 3) -> (3, H, W)
        Tensor::from_vec(values, (self.height, self.width, 3), &Device::Cpu)?
            .permute((2, 0, 1))?
            .contiguous()
    }

    /// Colours the pixel (x, y), if there is one.
    fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.pixels[at..at + 3].copy_from_slice(&colour);
        }
    }

    fn text(&mut self, left: usize, top: usize, lines: &[String]) {
        for (index, line) in lines.iter().enumerate() {
            for (place, character) in line.chars().enumerate() {
                let x = left + place * LETTER;
                let y = top + index * LINE + font::descent(character) * TEXT;
                for (row, bits) in font::letter(character).into_iter().enumerate() {
                    for column in 0..font::WIDTH {
                        if bits >> (font::WIDTH - 1 - column) & 1 == 1 {
                            for step in 0..TEXT * TEXT {
                                let (dx, dy) = (step % TEXT, step / TEXT);
                                self.set(x + column * TEXT + dx, y + row * TEXT + dy, [INK; 3]);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Draws `values`, (3*H*W), enlarged by repeating pixels.
    fn image(
        &mut self,
        (x, y): (usize, usize),
        (h, w): (usize, usize),
        scale: usize,
        values: &[f32],
    ) {
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        for row in 0..h * scale {
            for column in 0..w * scale {
                let at = row / scale * w + column / scale;
                let colour = [0, 1, 2].map(|channel| byte(values[channel * h * w + at]));
                self.set(x + column, y + row, colour);
            }
        }
    }
}

fn mismatch(what: &str, expected: impl Into<String>, found: impl Into<String>) -> ReportError {
    ReportError::Sheet {
        what: what.to_string(),
        expected: expected.into(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(red: f32, (h, w): (usize, usize)) -> Tensor {
        let mut values = vec![0.0; 3 * h * w];
        values[..h * w].fill(red);
        Tensor::from_vec(values, (3, h, w), &Device::Cpu).unwrap()
    }

    fn row(label: &str, images: Vec<Tensor>) -> SheetRow {
        SheetRow {
            label: label.into(),
            images,
        }
    }

    #[test]
    fn images_stand_in_place_enlarged_and_clamped() {
        let sheet = Sheet {
            rows: vec![row("", vec![image(0.5, (2, 3)), image(7.0, (2, 3))])],
            scale: Some(4),
            ..Sheet::default()
        };
        let drawn = sheet.draw().unwrap();
        assert_eq!(
            (drawn.width, drawn.height),
            (GAP + 2 * (12 + GAP), GAP + 8 + GAP)
        );
        let pixel = |x: usize, y: usize| {
            let at = (y * drawn.width + x) * 3;
            [drawn.pixels[at], drawn.pixels[at + 1], drawn.pixels[at + 2]]
        };
        assert_eq!(pixel(GAP - 1, GAP), [255; 3]);
        assert_eq!(pixel(GAP, GAP), [128, 0, 0]);
        assert_eq!(pixel(GAP + 11, GAP + 7), [128, 0, 0]);
        assert_eq!(pixel(GAP + 12, GAP), [255; 3]);
        assert_eq!(pixel(GAP + 12 + GAP, GAP), [255, 0, 0]);
    }

    #[test]
    fn small_images_are_enlarged_by_a_whole_number_to_128_pixels_or_more() {
        for (side, scale) in [(32, 4), (64, 2), (96, 2), (128, 1), (224, 1)] {
            let sheet = Sheet {
                rows: vec![row("", vec![image(1.0, (side, side))])],
                ..Sheet::default()
            };
            assert_eq!(sheet.draw().unwrap().width, side * scale + 2 * GAP);
        }
    }

    #[test]
    fn captions_take_room_above_and_labels_to_the_left_and_both_are_drawn() {
        let mut sheet = Sheet {
            columns: vec!["view".into(), "a caption of many words".into()],
            rows: vec![row("", vec![image(1.0, (64, 64)), image(1.0, (64, 64))])],
            scale: None,
        };
        let plain = sheet.draw().unwrap();
        sheet.rows[0].label = "a".into();
        let labelled = sheet.draw().unwrap();
        assert_eq!(labelled.width, plain.width + LETTER + GAP);
        assert!(plain.height > 128 + 2 * GAP + LINE);
        let ink = |sheet: &RgbSheet| sheet.pixels.chunks(3).filter(|p| *p == [INK; 3]).count();
        // The letter "a" has 14 dots.
        assert_eq!(ink(&labelled), ink(&plain) + 14 * TEXT * TEXT);
    }

    #[test]
    fn the_tensor_holds_the_same_picture() {
        let sheet = Sheet {
            rows: vec![row("", vec![image(1.0, (2, 2))])],
            ..Sheet::default()
        };
        let drawn = sheet.draw().unwrap();
        let tensor = drawn.to_tensor().unwrap();
        assert_eq!(tensor.dims(), [3, drawn.height, drawn.width]);
        let corner: Vec<Vec<Vec<f32>>> = tensor.to_vec3().unwrap();
        assert_eq!([0, 1, 2].map(|c| corner[c][GAP][GAP]), [1.0, 0.0, 0.0]);
        assert_eq!([0, 1, 2].map(|c| corner[c][0][0]), [1.0; 3]);
    }

    #[test]
    fn rows_and_images_that_do_not_fit_are_refused() {
        let a = || image(1.0, (4, 4));
        let of = |columns: &[&str], rows| Sheet {
            columns: columns.iter().map(ToString::to_string).collect(),
            rows,
            scale: None,
        };
        let message = |sheet: Sheet| sheet.draw().unwrap_err().to_string();
        assert_eq!(
            message(of(&[], vec![])),
            "sheet: images: expected at least one, found none"
        );
        assert_eq!(
            message(of(&["x", "y"], vec![row("r", vec![a()])])),
            "sheet: row 0 (\"r\"): expected 2 images, found 1 images"
        );
        assert_eq!(
            message(of(&[], vec![row("r", vec![a(), image(1.0, (4, 5))])])),
            "sheet: image 1 of row 0: expected [3, 4, 4], found [3, 4, 5]"
        );
        let huge = Sheet {
            scale: Some(usize::MAX),
            ..of(&[], vec![row("", vec![a()])])
        };
        assert!(message(huge).contains("32768"));
        let none = Sheet {
            scale: Some(0),
            ..of(&[], vec![row("", vec![a()])])
        };
        assert!(message(none).contains("scale"));
    }
}
