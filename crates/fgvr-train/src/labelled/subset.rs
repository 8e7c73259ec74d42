//! Some images of a data set.

use std::path::Path;
use std::sync::Arc;

use fgvr_data::{Dataset, Error, Image};

/// The images of a set at some places, in their order.
pub(crate) struct Subset {
    set: Arc<dyn Dataset>,
    rows: Vec<usize>,
}

impl Subset {
    pub(crate) fn new(set: &Arc<dyn Dataset>, rows: Vec<usize>) -> Self {
        Self {
            set: Arc::clone(set),
            rows,
        }
    }

    fn row(&self, index: usize) -> usize {
        // Past the end here is past the end there.
        self.rows.get(index).copied().unwrap_or(usize::MAX)
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        self.set.load(self.row(index))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.set.label(self.row(index))
    }

    fn id(&self, index: usize) -> String {
        self.set.id(self.row(index))
    }

    fn path(&self, index: usize) -> Option<&Path> {
        self.set.path(self.row(index))
    }

    fn encoded_length(&self, index: usize) -> Option<u64> {
        self.set.encoded_length(self.row(index))
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, Error> {
        self.set.encoded(self.row(index))
    }

    fn classes(&self) -> &[String] {
        self.set.classes()
    }
}
