//! Names of an enum's variants, written once.

/// For an enum without fields: the name of each variant as `name` (documented by the literal) and in
/// [`Display`](std::fmt::Display), and all variants as `ALL`.
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
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::adapt::Answer;
    use crate::{JudgedOn, OptimizerKind, Which};

    #[test]
    fn all_variants_stand_in_their_order_and_are_shown_by_their_names() {
        assert_eq!(Which::ALL, [Which::Last, Which::BestVal]);
        assert_eq!(
            Answer::ALL.map(|a| a.to_string()),
            ["open", "shut", "cannot tell"]
        );
        assert_eq!(format!("{:>6}", OptimizerKind::Sgd), "   sgd");
    }

    #[test]
    fn names_are_those_of_files() {
        for kind in OptimizerKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for split in JudgedOn::ALL {
            assert_eq!(serde_json::to_value(split).unwrap(), split.name());
        }
    }
}
