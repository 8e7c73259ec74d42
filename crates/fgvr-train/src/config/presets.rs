//! Named settings.

/// Name, what it is for, and its settings in TOML.
pub const PRESETS: &[(&str, &str, &str)] = &[
    (
        "demo",
        "the whole pipeline on the built-in set in a few minutes on two cores",
        include_str!("../presets/demo.toml"),
    ),
    (
        "learn",
        "the built-in set at the length that claims about learning are made from",
        include_str!("../presets/learn.toml"),
    ),
    (
        "photos",
        "a folder of photos at 64 px with a ResNet-18",
        include_str!("../presets/photos.toml"),
    ),
];
