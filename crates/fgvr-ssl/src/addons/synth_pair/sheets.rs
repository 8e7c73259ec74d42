//! What pictures of a step show of its pairs.

use crate::step::{Column, Shows};

/// The names of images in pictures, and the sheets of them.
pub(super) const IMAGES: [&str; 4] = ["reconstruction", "perturbed", "query", "key"];
const X: Column = Column {
    caption: "x",
    shows: Shows::View,
};
const D_OF_H: Column = Column {
    caption: "d(h)",
    shows: Shows::Images(IMAGES[0]),
};
pub(super) const PAIRS: [Column; 4] = [
    X,
    D_OF_H,
    Column {
        caption: "perturbed",
        shows: Shows::Images(IMAGES[1]),
    },
    Column {
        caption: "2x difference",
        shows: Shows::Difference([IMAGES[0], IMAGES[1]]),
    },
];
pub(super) const SEEN: [Column; 2] = [
    Column {
        caption: "query",
        shows: Shows::Images(IMAGES[2]),
    },
    Column {
        caption: "key",
        shows: Shows::Images(IMAGES[3]),
    },
];
