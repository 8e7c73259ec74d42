//! Names of an enum's variants, written once.

/// For an enum without fields: the name of each variant as `name` (documented by the first literal) and in
/// [`Display`](std::fmt::Display), and all variants as `ALL`. With `else` it is also read by
/// [`FromStr`](std::str::FromStr): the type behind `else` is that of its errors, and the function makes one from a name
/// that no variant has.
///
/// ```
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Colour { Red, Green }
/// fgvr_nn::named!(Colour, "In words." { Red = "red", Green = "green", } else String: |name| format!("{name} is none"));
/// assert_eq!(Colour::ALL.map(Colour::name), ["red", "green"]);
/// assert_eq!("green".parse(), Ok(Colour::Green));
/// assert_eq!("blue".parse::<Colour>(), Err("blue is none".to_owned()));
/// ```
#[macro_export]
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
    ($kind:ident, $doc:literal { $($variant:ident = $name:literal,)+ } else $error:ty: $unknown:expr) => {
        $crate::named!($kind, $doc { $($variant = $name,)+ });

        impl std::str::FromStr for $kind {
            type Err = $error;

            fn from_str(name: &str) -> std::result::Result<Self, $error> {
                let found = Self::ALL.into_iter().find(|known| known.name() == name);
                found.ok_or_else(|| $unknown(name))
            }
        }
    };
}
