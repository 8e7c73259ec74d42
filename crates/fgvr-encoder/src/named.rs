//! Names of an enum's variants, written once.

/// For an enum without fields: the name of each variant as `name` (documented by the first literal) and in
/// [`Display`](std::fmt::Display), and all variants as `ALL`. With `else` it is also read by
/// [`FromStr`](std::str::FromStr); the function behind `else` makes the error from a name that no variant has.
macro_rules! named {
    ($kind:ident, $doc:literal { $($variant:ident = $name:literal,)+ }) => {
        impl $kind {
            /// All of them, in the order of their declaration.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            #[doc = $doc]
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
    ($kind:ident, $doc:literal { $($variant:ident = $name:literal,)+ } else $unknown:expr) => {
        $crate::named::named!($kind, $doc { $($variant = $name,)+ });

        impl std::str::FromStr for $kind {
            type Err = $crate::Error;

            fn from_str(name: &str) -> Result<Self, $crate::Error> {
                let found = Self::ALL.into_iter().find(|known| known.name() == name);
                found.ok_or_else(|| $unknown(name))
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::export::Format;
    use crate::weights::Interpolation;
    use crate::{Pooling, Positions, Stem};

    /// The name that a settings file has for it.
    #[cfg(feature = "serde")]
    fn written(value: impl serde::Serialize) -> String {
        let text = serde_json::to_string(&value).unwrap();
        text.trim_matches('"').to_owned()
    }

    #[test]
    #[cfg(feature = "serde")]
    fn names_are_those_of_settings_files() {
        for stem in Stem::ALL {
            assert_eq!(written(stem), stem.name());
        }
        for pooling in Pooling::ALL {
            assert_eq!(written(pooling), pooling.name());
        }
        for positions in Positions::ALL {
            assert_eq!(written(positions), positions.name());
        }
        for interpolation in Interpolation::ALL {
            assert_eq!(written(interpolation), interpolation.to_string());
        }
    }

    #[test]
    fn a_format_is_read_by_its_name_and_an_unknown_one_is_answered_with_both() {
        for format in Format::ALL {
            assert_eq!(format.name().parse::<Format>().unwrap(), format);
        }
        let error = "onnx".parse::<Format>().unwrap_err().to_string();
        assert!(
            error.contains(r#"format is "onnx", expected timm or transformers"#),
            "{error}"
        );
    }
}
