//! The settings of an adaptation, and the kinds of it that are compared.

use std::fmt;
use std::str::FromStr;

use super::AdaptError;

/// Which covariance an adaptation divides out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum AdaptKind {
    /// That of views of one image, and that of mutual neighbours added to it.
    #[default]
    NuisanceNeighbours,
    /// That of views of one image alone.
    Nuisance,
    /// Control: none. The mean is taken off and nothing else is done.
    Centred,
    /// Control: that of the plain features, as in ordinary whitening.
    Total,
    /// Control: the nuisance's, in a random orthogonal basis: equal eigenvalues, unrelated directions.
    RandomBasis,
    /// Control: that of the plain features less the nuisance's, with negative eigenvalues set to 0: divides out
    /// what tells images apart.
    Between,
    /// Control: that of mutual neighbours alone.
    Neighbours,
}

impl AdaptKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::NuisanceNeighbours,
        Self::Nuisance,
        Self::Centred,
        Self::Total,
        Self::RandomBasis,
        Self::Between,
        Self::Neighbours,
    ];

    /// Its name in configuration files, saved files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NuisanceNeighbours => "nuisance-neighbours",
            Self::Nuisance => "nuisance",
            Self::Centred => "centred",
            Self::Total => "total",
            Self::RandomBasis => "random-basis",
            Self::Between => "between",
            Self::Neighbours => "neighbours",
        }
    }

    /// Whether it is fitted to augmented views; the others need plain features alone.
    #[must_use]
    pub fn needs_views(self) -> bool {
        !matches!(self, Self::Centred | Self::Total)
    }

    /// Whether it searches neighbours, for which the plain features must be at hand when it is fitted.
    #[must_use]
    pub fn needs_features(self) -> bool {
        matches!(self, Self::NuisanceNeighbours | Self::Neighbours)
    }
}

impl fmt::Display for AdaptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AdaptKind {
    type Err = AdaptError;

    fn from_str(name: &str) -> Result<Self, AdaptError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| AdaptError::Config {
            field: "kind",
            value: format!("{name:?}"),
            expected: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// What goes into the covariance that is divided out.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct AdaptConfig {
    /// Which covariance. By default [`AdaptKind::NuisanceNeighbours`].
    pub kind: AdaptKind,
    /// r >= 0: this share of the mean variance of a channel is added to each variance, so that directions in
    /// which the views hardly vary are not blown up. By default 0.3.
    pub ridge: f64,
    /// k >= 1: images are mutual neighbours if each is among the k nearest of the other. By default 5.
    pub neighbours: usize,
    /// λ >= 0: the weight of the neighbours' covariance beside the nuisance's, both of trace 1. By default 1.
    pub neighbour_weight: f64,
    /// Draws the basis of [`AdaptKind::RandomBasis`]. By default 0.
    pub seed: u64,
}

impl AdaptConfig {
    /// The defaults for a `kind`.
    #[must_use]
    pub fn of(kind: AdaptKind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    pub fn validate(&self) -> Result<(), AdaptError> {
        let numbers = [
            ("ridge", self.ridge),
            ("neighbour_weight", self.neighbour_weight),
        ];
        for (field, value) in numbers {
            if !(value.is_finite() && value >= 0.) {
                return Err(AdaptError::Config {
                    field,
                    value: value.to_string(),
                    expected: "a finite value >= 0".to_owned(),
                });
            }
        }
        if self.neighbours == 0 {
            return Err(AdaptError::Config {
                field: "neighbours",
                value: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        Ok(())
    }
}

impl Default for AdaptConfig {
    fn default() -> Self {
        Self {
            kind: AdaptKind::default(),
            ridge: 0.3,
            neighbours: 5,
            neighbour_weight: 1.,
            seed: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_lead_back_to_them_and_others_are_refused_with_the_list() {
        for kind in AdaptKind::ALL {
            assert_eq!(kind.to_string().parse::<AdaptKind>().unwrap(), kind);
        }
        let error = "pca".parse::<AdaptKind>().unwrap_err().to_string();
        assert_eq!(
            error,
            "kind is \"pca\", expected one of nuisance-neighbours, nuisance, centred, total, random-basis, \
             between, neighbours"
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let with = |change: fn(&mut AdaptConfig)| {
            let mut cfg = AdaptConfig::default();
            change(&mut cfg);
            cfg.validate().map_err(|error| error.to_string())
        };
        assert_eq!(with(|_| ()), Ok(()));
        let refused = |text: &str| Err(text.to_owned());
        assert_eq!(
            with(|cfg| cfg.ridge = -0.1),
            refused("ridge is -0.1, expected a finite value >= 0")
        );
        assert_eq!(
            with(|cfg| cfg.neighbour_weight = f64::NAN),
            refused("neighbour_weight is NaN, expected a finite value >= 0")
        );
        assert_eq!(
            with(|cfg| cfg.neighbours = 0),
            refused("neighbours is 0, expected at least 1")
        );
    }
}
