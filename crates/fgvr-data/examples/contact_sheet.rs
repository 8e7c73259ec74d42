//! Draws a sheet of the built-in set: one row per class, then the same images with the telling
//! parts outlined.
//!
//! `cargo run -p fgvr-data --example contact_sheet -- OUT.png [SIZE] [NUISANCE]`

use std::error::Error;
use std::io::{ErrorKind, Write as _};

use fgvr_data::{Dataset, Lookalikes, LookalikesConfig, Split};
use image::{Rgb, RgbImage};

/// Images per class.
const COLUMNS: usize = 6;
const GAP: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: contact_sheet OUT.png [SIZE] [NUISANCE]")?;
    let mut number = || {
        arguments
            .next()
            .map(|number| number.to_string_lossy().into_owned())
    };
    let size: usize = number().map_or(Ok(96), |s| s.parse())?;
    let mut cfg = LookalikesConfig::default();
    if let Some(nuisance) = number() {
        cfg.nuisance = nuisance.parse()?;
    }
    let set = Lookalikes::new(&cfg, size, Split::Train)?;

    let cell = size + GAP;
    let rows = set.classes().len();
    let mut sheet = RgbImage::from_pixel(
        u32::try_from(2 * COLUMNS * cell + 4 * GAP)?,
        u32::try_from(rows * cell)?,
        Rgb([255; 3]),
    );
    let mut filled = vec![0; rows];
    for index in 0..set.len() {
        let Some(row) = set.label(index).map(|label| label as usize) else {
            continue;
        };
        let column = filled[row];
        if column == COLUMNS {
            continue;
        }
        filled[row] += 1;
        let image = set.load(index)?;
        let parts = set.part_mask(index)?.ok_or("a set without part masks")?;
        for y in 0..size {
            for x in 0..size {
                let i = y * size + x;
                let pixel = Rgb([0, 1, 2].map(|c| image.pixels[3 * i + c]));
                let inside = parts.values[i] >= 0.5;
                let edge = inside
                    && [(0, 1), (2, 1), (1, 0), (1, 2)].iter().any(|&(dx, dy)| {
                        let (nx, ny) = ((x + dx).wrapping_sub(1), (y + dy).wrapping_sub(1));
                        nx >= size || ny >= size || parts.values[ny * size + nx] < 0.5
                    });
                let outlined = if edge { Rgb([255, 0, 80]) } else { pixel };
                let at = |column: usize, extra: usize| -> Result<(u32, u32), Box<dyn Error>> {
                    Ok((
                        u32::try_from(column * cell + extra + x)?,
                        u32::try_from(row * cell + y)?,
                    ))
                };
                let (left, right) = (at(column, 0)?, at(COLUMNS + column, 4 * GAP)?);
                sheet.put_pixel(left.0, left.1, pixel);
                sheet.put_pixel(right.0, right.1, outlined);
            }
        }
    }
    sheet.save(&path)?;
    let rows = set.classes().iter().enumerate();
    let rows: String = rows
        .map(|(row, class)| format!("row {row:2}: {class}\n"))
        .collect();
    match std::io::stdout().write_all(rows.as_bytes()) {
        // A reader that has seen enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
