//! JPEGs that the decoder below would get wrong without a word: found by their headers, and mended or
//! refused.
//!
//! What it gets right was found by comparing every sampling layout, every way to cut the picture into
//! scans and every marker of colour with libjpeg's pixels (`tests/golden/pixels.py` keeps one of each
//! kind). Where libjpeg and the decoder disagree about the meaning of the components alone, the headers
//! are rewritten so that both mean the same.

use std::borrow::Cow;

use super::Refused;
use super::container::{Segment, segments};

const SAVE_AGAIN: &str =
    "save it again as PNG or as an ordinary JPEG, such as by `djpeg` or ImageMagick";
const REWRITE: &str = "`jpegtran -copy all` rewrites it without loss";

/// That a JPEG is of this kind.
fn refused(kind: impl std::fmt::Display, remedy: &'static str) -> Refused {
    Refused {
        kind: format!("a JPEG of a kind that is not decoded here: {kind}"),
        remedy,
    }
}

/// A component as the frame header tells it.
struct Component {
    name: u8,
    /// Where its name stands in the file.
    at: usize,
    /// Samples across and down in a unit of the picture.
    factors: (u8, u8),
}

/// What the headers say.
struct Headers<'a> {
    components: Vec<Component>,
    /// Whether the coefficients come in several scans.
    progressive: bool,
    /// The bodies of the scan headers and where they are; only the first, if that has all components.
    scans: Vec<Segment<'a>>,
    jfif: bool,
    /// Where the transforms of Adobe's markers stand.
    adobe: Vec<usize>,
}

/// The bytes to decode: those of the file, or with headers that the decoder understands as libjpeg does.
/// A file whose headers make no sense is left to the decoder, which says so.
pub(super) fn readable(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Refused> {
    let Some(headers) = Headers::of(bytes)? else {
        return Ok(Cow::Borrowed(bytes));
    };
    headers.check_sampling()?;
    headers.check_scans()?;
    Ok(headers.mend_colour(bytes))
}

impl<'a> Headers<'a> {
    fn of(bytes: &'a [u8]) -> Result<Option<Self>, Refused> {
        let mut found = Self {
            components: Vec::new(),
            progressive: false,
            scans: Vec::new(),
            jfif: false,
            adobe: Vec::new(),
        };
        for segment in segments(bytes) {
            let body = segment.body;
            let before = found.scans.is_empty();
            match segment.marker {
                0xC4 | 0xC8 => {}
                marker @ 0xC0..=0xCF if before => {
                    let coding = match marker {
                        0xC0..=0xC2 => None,
                        0xC3 => Some("lossless coding"),
                        0xC5..=0xC7 => Some("hierarchical coding"),
                        _ => Some("arithmetic coding"),
                    };
                    if let Some(coding) = coding {
                        return Err(refused(coding, SAVE_AGAIN));
                    }
                    found.progressive = marker == 0xC2;
                    if found.frame(&segment)?.is_none() {
                        return Ok(None);
                    }
                }
                0xE0 if before => found.jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0"),
                0xEE if before && body.len() >= 12 && body.starts_with(b"Adobe") => {
                    found.adobe.push(segment.at + 11);
                }
                0xDA => {
                    let all = body.first().map(|n| usize::from(*n)) == Some(found.components.len());
                    let whole = before && all && !found.progressive;
                    found.scans.push(segment);
                    if whole {
                        break;
                    }
                }
                _ => {}
            }
        }
        Ok((!found.components.is_empty() && !found.scans.is_empty()).then_some(found))
    }

    /// Reads a frame header (T.81, B.2.2); `None` if it is too short.
    fn frame(&mut self, segment: &Segment<'_>) -> Result<Option<()>, Refused> {
        let Some((head, rest)) = segment.body.split_at_checked(6) else {
            return Ok(None);
        };
        if head[0] != 8 {
            let kind = format!("{} bits a sample, expected 8", head[0]);
            return Err(refused(kind, SAVE_AGAIN));
        }
        if head[1..3] == [0, 0] {
            return Err(refused(
                "its height stands after the first scan",
                SAVE_AGAIN,
            ));
        }
        let count = usize::from(head[5]);
        if !matches!(count, 1 | 3 | 4) {
            let kind = format!("{count} components, expected 1, 3 or 4");
            return Err(refused(kind, SAVE_AGAIN));
        }
        let described = rest.chunks_exact(3).take(count).enumerate();
        self.components = described
            .map(|(i, part)| Component {
                name: part[0],
                at: segment.at + 6 + 3 * i,
                factors: (part[1] >> 4, part[1] & 15),
            })
            .collect();
        Ok((self.components.len() == count).then_some(()))
    }

    /// The layouts of samples that are put together right.
    fn check_sampling(&self) -> Result<(), Refused> {
        let factors = || self.components.iter().map(|component| component.factors);
        let across = factors().map(|(across, _)| across).max().unwrap_or(1);
        let down = factors().map(|(_, down)| down).max().unwrap_or(1);
        let (first_across, first_down) = self.components[0].factors;
        let list = || {
            let texts: Vec<_> = factors().map(|(a, d)| format!("{a}x{d}")).collect();
            format!("sampling factors {}", texts.join(", "))
        };
        if first_across < across {
            let kind = format!("luma is sampled more coarsely than chroma ({})", list());
            return Err(refused(kind, SAVE_AGAIN));
        }
        let odd = factors().any(|(across, _)| across == 3)
            || (down == 4 && factors().any(|(_, down)| down == 2))
            || (first_across == 4 && first_down < down);
        match odd {
            true => Err(refused(list(), SAVE_AGAIN)),
            false => Ok(()),
        }
    }

    /// The ways to cut a picture into scans that are put together right.
    fn check_scans(&self) -> Result<(), Refused> {
        if self.progressive {
            return match self.refined() {
                true => Ok(()),
                false => Err(refused(
                    "a progressive one without its last scans, which is a blurred picture",
                    "fetch or copy it again",
                )),
            };
        }
        if self.scans.len() == 1 {
            return Ok(());
        }
        let flat = self.components.iter().all(|c| c.factors.1 == 1);
        let right = flat
            && self.scans.iter().enumerate().all(|(i, scan)| {
                let parts = parts(scan.body);
                // Tables that come later than the first scan are missed by those who look them up before.
                let ready = i > 0 || parts.clone().all(|(_, tables)| tables == 0);
                let narrow = |(name, _): (u8, u8)| {
                    let component = self.components.iter().find(|c| c.name == name);
                    component.is_some_and(|c| c.factors.0 == 1)
                };
                ready && (parts.clone().count() == 1 || parts.clone().all(narrow))
            });
        match right {
            true => Ok(()),
            false => Err(refused("its components lie in separate scans", REWRITE)),
        }
    }

    /// Whether the scans of a progressive JPEG give all bits of each component's mean and of its nine
    /// lowest frequencies. Where they do not, libjpeg smooths the blocks and others show them.
    fn refined(&self) -> bool {
        self.components.iter().all(|component| {
            // Bits that are still to come, by frequency; none is known before its first scan.
            let mut left = [u8::MAX; 64];
            for scan in &self.scans {
                let count = usize::from(scan.body.first().copied().unwrap_or(0));
                let Some(&[start, end, bits]) = scan.body.get(1 + 2 * count..4 + 2 * count) else {
                    continue;
                };
                if parts(scan.body).any(|(name, _)| name == component.name) {
                    let band = usize::from(start)..=usize::from(end.min(63));
                    if let Some(band) = left.get_mut(band) {
                        band.fill(bits & 15);
                    }
                }
            }
            left[..10].iter().all(|bits| *bits == 0)
        })
    }

    /// The file with headers that say to the decoder which colours libjpeg sees in it: JFIF's marker
    /// outweighs Adobe's, that outweighs the components' names.
    fn mend_colour<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let transform = self.adobe.last().map(|at| bytes[*at]);
        let names: Vec<u8> = self.components.iter().map(|c| c.name).collect();
        let named_rgb = names == *b"RGB";
        let mut mended = Cow::Borrowed(bytes);
        let set = |mended: &mut Cow<'b, [u8]>, value: u8| {
            for at in &self.adobe {
                mended.to_mut()[*at] = value;
            }
        };
        match names.len() {
            // The marker says nothing of grey; under another name the decoder steps over it.
            1 if transform.is_some() => {
                for at in &self.adobe {
                    mended.to_mut()[at - 11] = b'a';
                }
            }
            3 => {
                let rgb = match (self.jfif, transform) {
                    (true, _) => false,
                    (false, Some(transform)) => transform == 0,
                    (false, None) => named_rgb,
                };
                if !rgb && named_rgb {
                    self.rename(&mut mended);
                }
                let said = transform.unwrap_or(1);
                if !rgb && !matches!(said, 1 | 2) {
                    set(&mut mended, 1);
                }
            }
            // Any transform but 0 makes the first three a YCbCr.
            4 if !matches!(transform, None | Some(0 | 2)) => set(&mut mended, 2),
            _ => {}
        }
        mended
    }

    /// Gives the components the names 1, 2 and 3, in the frame and in every scan.
    fn rename(&self, bytes: &mut Cow<'_, [u8]>) {
        for (number, component) in (1..).zip(&self.components) {
            bytes.to_mut()[component.at] = number;
            for scan in &self.scans {
                for (i, (name, _)) in parts(scan.body).enumerate() {
                    if name == component.name {
                        bytes.to_mut()[scan.at + 1 + 2 * i] = number;
                    }
                }
            }
        }
    }
}

/// The components of a scan: names, and which tables they use.
fn parts(scan: &[u8]) -> impl Iterator<Item = (u8, u8)> + Clone {
    let (count, rest) = scan.split_first().unwrap_or((&0, &[]));
    let pairs = rest.chunks_exact(2).take(usize::from(*count));
    pairs.map(|pair| (pair[0], pair[1]))
}
