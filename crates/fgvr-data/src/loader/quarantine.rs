//! Images that cannot be read.

use std::path::Path;

use crate::{Error, atomic};

/// An image that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its index in the data set.
    pub index: usize,
    /// Its name in the data set.
    pub path: String,
    /// Why it cannot be read.
    pub reason: String,
}

/// How many of `images` may be unreadable: a share of them, and at least one unless the share is 0.
/// One readable image must remain, or there is nothing to put in the places of the others.
pub(super) fn budget(images: usize, share: f64) -> usize {
    let least = usize::from(share > 0.);
    let allowed = (share * images as f64) as usize;
    allowed.max(least).min(images.saturating_sub(1))
}

/// Writes a table with the columns index, path, reason; the file is replaced as a whole.
///
/// # Errors
/// [`Error::Io`].
pub fn write_quarantine(quarantined: &[Quarantined], path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let table = table(quarantined).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    atomic::write(path, &table)
}

fn table(quarantined: &[Quarantined]) -> std::io::Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["index", "path", "reason"])?;
    for q in quarantined {
        table.write_record([&q.index.to_string(), &q.path, &q.reason])?;
    }
    table.into_inner().map_err(csv::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_a_share_and_at_least_one_unless_none_is_wanted() {
        assert_eq!(budget(1000, 0.01), 10);
        assert_eq!(budget(50, 0.01), 1);
        assert_eq!(budget(1000, 0.), 0);
        assert_eq!(budget(1, 0.01), 0);
        assert_eq!(budget(2, 0.99), 1);
    }
}
