//! Boxes around what an image shows.

use std::path::{Path, PathBuf};

use super::text::at;
use crate::Error;

/// A box in an image. Its edges are in pixels from the image's upper left corner, so that the first pixel reaches from
/// 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundingBox {
    /// Of the left edge.
    pub left: f64,
    /// Of the upper edge.
    pub top: f64,
    /// Of the right edge, right of `left`.
    pub right: f64,
    /// Of the lower edge, below `top`.
    pub bottom: f64,
}

impl BoundingBox {
    /// From the edges; `Err` says what is wrong with them.
    pub(super) fn of(edges: [f64; 4]) -> Result<Self, String> {
        let [left, top, right, bottom] = edges;
        let bounded = edges.iter().all(|edge| edge.abs() < 1e9);
        if bounded && right > left && bottom > top {
            return Ok(Self {
                left,
                top,
                right,
                bottom,
            });
        }
        Err(format!(
            "expected a box with finite edges and an area, found {left} to {right} across and {top} to {bottom} down"
        ))
    }

    /// From the first and the last pixel in either direction, counted from 1, as MATLAB does.
    pub(super) fn of_pixels([x1, y1, x2, y2]: [f64; 4]) -> Result<Self, String> {
        Self::of([x1 - 1., y1 - 1., x2, y2])
    }

    /// The length of the shorter side.
    pub(super) fn shorter(&self) -> f64 {
        (self.right - self.left).min(self.bottom - self.top)
    }

    /// With `margin` times the longer side more on each side, in whole pixels, not beyond the left and upper edges of
    /// the image.
    pub(super) fn widened(&self, margin: f64) -> Self {
        let more = margin * (self.right - self.left).max(self.bottom - self.top);
        Self {
            left: (self.left - more).floor().max(0.),
            top: (self.top - more).floor().max(0.),
            right: (self.right + more).ceil(),
            bottom: (self.bottom + more).ceil(),
        }
    }

    /// The columns and rows of an image that it covers, as first and end; `None` where it lies beside the image.
    pub(super) fn window(&self, width: usize, height: usize) -> Option<[usize; 4]> {
        // `as` cuts off what is below 0.
        let (left, right) = (self.left as usize, (self.right as usize).min(width));
        let (top, bottom) = (self.top as usize, (self.bottom as usize).min(height));
        (left < right && top < bottom).then_some([left, top, right, bottom])
    }
}

/// Where the box of an image stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bounds {
    /// In a list, and where in it.
    Known {
        bounds: BoundingBox,
        file: PathBuf,
        place: String,
    },
    /// In an XML file of its own, below the folder of the set, which is read when it is asked for.
    Xml { path: String, counts_from_one: bool },
}

impl Bounds {
    /// The box, and the file and place that say so.
    pub(super) fn read(&self, root: &Path) -> Result<(BoundingBox, PathBuf, String), Error> {
        match self {
            Self::Known {
                bounds,
                file,
                place,
            } => Ok((*bounds, file.clone(), place.clone())),
            Self::Xml {
                path,
                counts_from_one,
            } => {
                let file = root.join(path);
                let text = std::fs::read_to_string(&file).map_err(|source| Error::Io {
                    path: file.clone(),
                    source,
                })?;
                let (bounds, line) = parse_xml(&file, &text, *counts_from_one)?;
                Ok((bounds, file, format!("line {line}")))
            }
        }
    }
}

/// The box around all objects of an annotation in the XML of PASCAL VOC, and the line of the first. With
/// `counts_from_one`, its numbers are pixels counted from 1, the last of them inside; otherwise they are edges.
///
/// # Errors
/// [`Error::Index`] for a text that is no such annotation, with its line.
pub fn parse_xml(
    file: &Path,
    text: &str,
    counts_from_one: bool,
) -> Result<(BoundingBox, u32), Error> {
    let document = roxmltree::Document::parse(text).map_err(|e| {
        at(
            file,
            format!("line {}", e.pos().row),
            format!("expected XML, {e}"),
        )
    })?;
    let line = |node: roxmltree::Node<'_, '_>| document.text_pos_at(node.range().start).row;
    let mut all: Option<(BoundingBox, u32)> = None;
    for node in document.descendants().filter(|n| n.has_tag_name("bndbox")) {
        let edge = |name: &str| {
            let child = node.children().find(|child| child.has_tag_name(name));
            let text = child.and_then(|child| child.text());
            let number = text.and_then(|text| text.trim().parse::<f64>().ok());
            number.ok_or_else(|| {
                let found = text.unwrap_or("none");
                let problem = format!("expected a number as {name} of the box, found {found}");
                at(file, format!("line {}", line(node)), problem)
            })
        };
        let edges = [edge("xmin")?, edge("ymin")?, edge("xmax")?, edge("ymax")?];
        let one = match counts_from_one {
            true => BoundingBox::of_pixels(edges),
            false => BoundingBox::of(edges),
        };
        let one = one.map_err(|problem| at(file, format!("line {}", line(node)), problem))?;
        all = Some(match all {
            None => (one, line(node)),
            Some((all, line)) => {
                let both = BoundingBox {
                    left: all.left.min(one.left),
                    top: all.top.min(one.top),
                    right: all.right.max(one.right),
                    bottom: all.bottom.max(one.bottom),
                };
                (both, line)
            }
        });
    }
    all.ok_or_else(|| {
        at(
            file,
            "line 1".to_owned(),
            "expected a bndbox, found none".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_of_several_objects_is_around_all_and_wrong_ones_have_their_line() {
        let of = |boxes: &str| {
            let text = format!("<annotation>\n<object>{boxes}</object></annotation>");
            parse_xml(Path::new("a.xml"), &text, true)
        };
        let one = |x1: &str, x2: &str| {
            format!(
                "<bndbox><xmin>{x1}</xmin><ymin>2</ymin><xmax>{x2}</xmax><ymax>5</ymax></bndbox>\n"
            )
        };
        let (bounds, line) = of(&(one("3", "9") + &one("1", "2"))).unwrap();
        let edges = [bounds.left, bounds.top, bounds.right, bounds.bottom];
        assert_eq!((edges, line), ([0., 1., 9., 5.], 2));
        for (x1, x2) in [
            ("NaN", "9"),
            ("9", "3"),
            ("x", "9"),
            ("1", "inf"),
            ("", "9"),
        ] {
            let error = of(&(one("1", "2") + &one(x1, x2))).unwrap_err().to_string();
            assert!(error.starts_with("a.xml: line 3: expected a"), "{error}");
        }
        assert!(of("").unwrap_err().to_string().contains("found none"));
        assert!(of("<b>").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn a_widened_box_is_cut_to_the_image_and_one_beside_it_is_none() {
        let bounds = BoundingBox::of([10.5, 20., 30., 28.]).unwrap();
        assert_eq!(bounds.widened(0.).window(100, 100), Some([10, 20, 30, 28]));
        assert_eq!(bounds.widened(1.).window(40, 40), Some([0, 0, 40, 40]));
        assert_eq!(bounds.widened(0.).window(10, 40), None);
        let left = BoundingBox::of([-9., 0., -1., 5.]).unwrap();
        assert_eq!(left.widened(0.).window(10, 10), None);
    }
}
