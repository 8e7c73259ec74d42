//! What bases and add-ons have in common before they are built: names, and choices that are checked.

use std::fmt;

use candle_core::Result;

use crate::Trunk;

/// The network and the batches that a method is to be trained with, as far as its choices must fit them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainedOn<'a> {
    /// Name of the trunk's architecture, for errors.
    pub architecture: &'a str,
    /// The kind of trunk.
    pub trunk: Trunk,
    /// Whether pooled features are the class token and the mean of the patches, one behind the other, so that they are
    /// twice as long as a place of the map has channels.
    pub pools_both: bool,
    /// Whether pooled features are the mean of the last map over its places, as those of convolutional networks and of
    /// transformers that pool the mean of their patches; a class token is not.
    pub pools_places: bool,
    /// Side of a view in pixels.
    pub side: usize,
    /// Pixels of a view per place of the trunk's last map.
    pub stride: usize,
    /// Images a step.
    pub batch: usize,
}

impl TrainedOn<'_> {
    /// Places along a side of the trunk's last map.
    #[must_use]
    pub fn places(&self) -> usize {
        // Convolutions round up.
        self.side.div_ceil(self.stride.max(1))
    }
}

/// The choices of a base or an add-on: its section of the settings of a run.
///
/// Errors read `section: field is VALUE, expected ...`, so that a program can say which setting is meant.
pub trait MethodConfig: fmt::Debug + Send + Sync {
    /// Changes defaults that do not fit a kind of trunk; `is_chosen` says of a field, such as `noise.kind`, whether
    /// somebody chose it.
    fn default_for(&mut self, _trunk: Trunk, _is_chosen: &dyn Fn(&str) -> bool) {}

    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    fn validate(&self) -> Result<()>;

    /// Checks what depends on the network and the batches.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    fn fits(&self, _on: &TrainedOn<'_>) -> Result<()> {
        Ok(())
    }
}

/// Identifies methods of one sort: the type, those of this crate, and their names.
macro_rules! kinds {
    ($(#[$of:meta])* $type:ident; $($(#[$doc:meta])* $constant:ident = $value:expr;)+) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type {
            name: &'static str,
            section: &'static str,
            pairs: Need,
            view_targets: Need,
        }

        impl $type {
            $($(#[$doc])* pub const $constant: Self = $value;)+

            /// Those of this crate.
            pub const ALL: [Self; [$(stringify!($constant)),+].len()] = [$(Self::$constant),+];

            /// Its name in configuration files and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                self.name
            }

            /// The section of the settings that holds its choices; its state is saved under this name, too.
            #[must_use]
            pub const fn section(self) -> &'static str {
                self.section
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name)
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name)
            }
        }
    };
}
pub(crate) use kinds;
