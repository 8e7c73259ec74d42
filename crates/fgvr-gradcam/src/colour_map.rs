//! Colours for numbers in [0, 1].

/// How a value in [0, 1] becomes a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum ColourMap {
    /// Dark violet over green to yellow; even to the eye, and readable without colour vision.
    #[default]
    Viridis,
    /// Dark blue over green to dark red; shows small differences.
    Turbo,
    /// Black to white.
    Gray,
}

/// Evenly spaced samples of the public-domain map viridis (S. van der Walt and N. Smith).
const VIRIDIS: [u32; 9] = [
    0x440154, 0x472d7b, 0x3b528b, 0x2c728e, 0x21908c, 0x27ad81, 0x5dc863, 0xaadc32, 0xfde725,
];

/// Evenly spaced samples of the map turbo (A. Mikhailov).
const TURBO: [u32; 10] = [
    0x30123b, 0x4662d7, 0x36aaf9, 0x1ae4b6, 0x72fe5e, 0xc7ef34, 0xfaba39, 0xf66b19, 0xcb2a04,
    0x7a0403,
];

impl ColourMap {
    /// Red, green and blue in [0, 1] of `value`, which is clamped to [0, 1]; straight lines between
    /// the samples of a table.
    #[must_use]
    pub fn rgb(self, value: f32) -> [f32; 3] {
        let value = value.clamp(0., 1.);
        match self {
            Self::Gray => [value; 3],
            Self::Viridis => between(&VIRIDIS, value),
            Self::Turbo => between(&TURBO, value),
        }
    }
}

fn between(table: &[u32], value: f32) -> [f32; 3] {
    let at = value * (table.len() - 1) as f32;
    let low = (at as usize).min(table.len() - 2);
    let part = at - low as f32;
    let byte = |colour: u32, channel: usize| ((colour >> (16 - 8 * channel)) & 0xff) as f32 / 255.;
    [0, 1, 2].map(|channel| {
        let (a, b) = (byte(table[low], channel), byte(table[low + 1], channel));
        a + part * (b - a)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_the_tables_ends_and_values_stay_in_range() {
        let dark = [0x44, 0x01, 0x54].map(|byte| byte as f32 / 255.);
        assert_eq!(ColourMap::Viridis.rgb(-3.), dark);
        let bright = [0xfd, 0xe7, 0x25].map(|byte| byte as f32 / 255.);
        for (a, b) in ColourMap::Viridis.rgb(1.).iter().zip(bright) {
            assert!((a - b).abs() < 1e-6);
        }
        assert_eq!(ColourMap::Gray.rgb(0.25), [0.25; 3]);
        for map in [ColourMap::Viridis, ColourMap::Turbo, ColourMap::Gray] {
            for step in 0..=100 {
                let rgb = map.rgb(step as f32 / 100.);
                assert!(
                    rgb.iter().all(|v| (0. ..=1.).contains(v)),
                    "{map:?} {rgb:?}"
                );
            }
        }
    }

    #[test]
    fn viridis_grows_lighter() {
        let light = |v: f32| {
            let [r, g, b] = ColourMap::Viridis.rgb(v);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        for step in 0..100 {
            assert!(light((step + 1) as f32 / 100.) > light(step as f32 / 100.));
        }
    }
}
