//! What may be chosen of a set.

/// How the folder of a data set is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum DataLayout {
    /// As one of the known sets where it has that set's files, as folders of photos otherwise.
    #[default]
    Auto,
    /// As folders of photos, whatever else is in them.
    Folders,
    /// CUB-200-2011.
    #[cfg_attr(feature = "serde", serde(rename = "cub-200-2011"))]
    Cub,
    /// Stanford Cars.
    #[cfg_attr(feature = "serde", serde(rename = "stanford-cars"))]
    Cars,
    /// FGVC-Aircraft.
    #[cfg_attr(feature = "serde", serde(rename = "fgvc-aircraft"))]
    Aircraft,
    /// Oxford-IIIT Pets.
    #[cfg_attr(feature = "serde", serde(rename = "oxford-pets"))]
    Pets,
    /// Oxford Flowers 102.
    #[cfg_attr(feature = "serde", serde(rename = "flowers-102"))]
    Flowers,
    /// Stanford Dogs.
    #[cfg_attr(feature = "serde", serde(rename = "stanford-dogs"))]
    Dogs,
    /// Food-101.
    #[cfg_attr(feature = "serde", serde(rename = "food-101"))]
    Food,
}

impl DataLayout {
    /// The set that is asked for by name.
    pub(crate) fn set(self) -> Option<SetKind> {
        match self {
            Self::Auto | Self::Folders => None,
            Self::Cub => Some(SetKind::Cub),
            Self::Cars => Some(SetKind::Cars),
            Self::Aircraft => Some(SetKind::Aircraft),
            Self::Pets => Some(SetKind::Pets),
            Self::Flowers => Some(SetKind::Flowers),
            Self::Dogs => Some(SetKind::Dogs),
            Self::Food => Some(SetKind::Food),
        }
    }
}

/// A known set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// CUB-200-2011.
    Cub,
    /// Stanford Cars.
    Cars,
    /// FGVC-Aircraft.
    Aircraft,
    /// Oxford-IIIT Pets.
    Pets,
    /// Oxford Flowers 102.
    Flowers,
    /// Stanford Dogs.
    Dogs,
    /// Food-101.
    Food,
}

impl SetKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Cub,
        Self::Cars,
        Self::Aircraft,
        Self::Pets,
        Self::Flowers,
        Self::Dogs,
        Self::Food,
    ];

    /// What its authors call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cub => "CUB-200-2011",
            Self::Cars => "Stanford Cars",
            Self::Aircraft => "FGVC-Aircraft",
            Self::Pets => "Oxford-IIIT Pets",
            Self::Flowers => "Flowers-102",
            Self::Dogs => "Stanford Dogs",
            Self::Food => "Food-101",
        }
    }
}

/// How finely FGVC-Aircraft is divided into classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Level {
    /// 100 variants, such as `737-700`.
    #[default]
    Variant,
    /// 70 families, such as `Boeing 737`.
    Family,
    /// 30 manufacturers, such as `Boeing`.
    Manufacturer,
}

impl Level {
    /// As it stands in the names of lists.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Variant => "variant",
            Self::Family => "family",
            Self::Manufacturer => "manufacturer",
        }
    }

    /// The list of its classes.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Variant => "variants.txt",
            Self::Family => "families.txt",
            Self::Manufacturer => "manufacturers.txt",
        }
    }
}

/// What of each image is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Crop {
    /// All of it.
    #[default]
    None,
    /// What lies in the set's box, and a margin around.
    Box,
}
