//! A study on other photos and other networks than its own.

use std::path::Path;

use super::config::{StudyConfig, StudyData};
use super::settings::CAREFUL;
use crate::config::did_you_mean;
use crate::{Error, Result};

/// What a study is put on and cut down to; nothing leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Photos in place of its data sets.
    pub data: Option<String>,
    /// Pretrained weights in place of those that its data sets start from.
    pub weights: Option<String>,
    /// More settings for all runs, each `key.path=value`.
    pub set: Vec<String>,
    /// Only these arms and the control; all, if there is none.
    pub arms: Vec<String>,
}

impl StudyConfig {
    /// The same study on other photos or from other weights, with more settings for all runs, and of its arms only those
    /// named and the control. Comparisons with an arm that is left out are left out.
    ///
    /// Other photos take the place of all data sets, once for each network that these start from, under the preset of its first
    /// data set where it has weights, and under the preset `photos` where it has none. Other weights take the place
    /// of those of all data sets, once for each of their sources; one without weights is then trained carefully. Settings of
    /// a data set go with its photos.
    ///
    /// # Errors
    /// An arm that it does not have, and what [`StudyConfig::parse`] refuses.
    pub fn with(mut self, elsewhere: &Elsewhere) -> Result<Self> {
        if let Some(source) = &elsewhere.data {
            self.data = on_photos(&self.data, source);
        }
        if let Some(weights) = &elsewhere.weights {
            let mut sources: Vec<String> = Vec::new();
            self.data.retain(|data| {
                let is_new = !sources.contains(&data.source);
                sources.push(data.source.clone());
                is_new
            });
            for data in &mut self.data {
                if data.weights.is_none() {
                    data.preset = Some(CAREFUL.to_owned());
                }
                data.weights = Some(weights.clone());
            }
            if let (true, [only]) = (elsewhere.data.is_some(), &mut self.data[..]) {
                // It was called after one of several networks.
                only.name = plain_name(&only.source);
            }
        }
        self.set.extend_from_slice(&elsewhere.set);
        self.keep_arms(&elsewhere.arms)?;
        self.validate("study")?;
        Ok(self)
    }

    fn keep_arms(&mut self, arms: &[String]) -> Result<()> {
        let names = || self.arm.iter().map(|arm| arm.name.as_str());
        if let Some(unknown) = arms
            .iter()
            .find(|name| !names().any(|known| known == **name))
        {
            return Err(Error::config(
                format!("--arm {unknown}"),
                format!(
                    "the study has no such arm{}; it has {}",
                    did_you_mean(unknown, names()),
                    names().collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        if !arms.is_empty() {
            let control = self.control.clone();
            let gone: Vec<String> = names()
                .filter(|name| *name != control && !arms.iter().any(|arm| arm == *name))
                .map(str::to_owned)
                .collect();
            self.arm.retain(|arm| !gone.contains(&arm.name));
            self.compare
                .retain(|named| !gone.contains(&named.arm) && !gone.contains(&named.with));
        }
        Ok(())
    }
}

/// The photos of `source` in place of those of `data`, once for each network that these start from.
fn on_photos(data: &[StudyData], source: &str) -> Vec<StudyData> {
    let mut networks: Vec<&StudyData> = Vec::new();
    for data in data {
        if !networks.iter().any(|other| other.weights == data.weights) {
            networks.push(data);
        }
    }
    let name = plain_name(source);
    let several = networks.len() > 1;
    let put = networks.into_iter().map(|network| StudyData {
        name: match several {
            true => format!("{name}-{}", network.name),
            false => name.clone(),
        },
        source: source.to_owned(),
        weights: network.weights.clone(),
        preset: match network.weights {
            Some(_) => network.preset.clone(),
            None => Some("photos".to_owned()),
        },
        set: Vec::new(),
    });
    put.collect()
}

/// A name for tables and paths after the last part of a source.
fn plain_name(source: &str) -> String {
    let name = Path::new(source).file_name();
    let name = name.map_or_else(|| "data".into(), |name| name.to_string_lossy());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = r#"
name = "tiny"
seeds = [0]
control = "start"
closed_form = true
[[data]]
name = "a-birds"
source = "birds"
weights = "a"
preset = "pretrained"
set = ["data.size=32"]
[[data]]
name = "b-birds"
source = "birds"
weights = "b"
[[data]]
name = "a-cars"
source = "cars"
weights = "a"
[[arm]]
name = "one"
[[arm]]
name = "two"
[[compare]]
arm = "one"
with = "two"
figure = "kNN"
[[compare]]
arm = "two"
with = "start"
figure = "kNN"
"#;

    fn on(elsewhere: &Elsewhere) -> Vec<[String; 4]> {
        let study = StudyConfig::parse(STUDY, "s.toml").unwrap();
        let study = study.with(elsewhere).unwrap();
        let text = |of: &Option<String>| of.clone().unwrap_or_default();
        let of = |d: &StudyData| {
            let [weights, preset] = [text(&d.weights), text(&d.preset)];
            [d.name.clone(), d.source.clone(), weights, preset]
        };
        study.data.iter().map(of).collect()
    }

    #[test]
    fn other_photos_are_seen_by_each_network_and_other_weights_by_each_set_of_photos() {
        let data = Elsewhere {
            data: Some("my/own photos".to_owned()),
            ..Elsewhere::default()
        };
        let own = "my/own photos";
        let found = on(&data);
        assert_eq!(found[0], ["own-photos-a-birds", own, "a", "pretrained"]);
        assert_eq!(found[1], ["own-photos-b-birds", own, "b", ""]);
        assert_eq!(found.len(), 2);
        let weights = Elsewhere {
            weights: Some("c".to_owned()),
            ..Elsewhere::default()
        };
        let found = on(&weights);
        assert_eq!(found[0], ["a-birds", "birds", "c", "pretrained"]);
        assert_eq!(found[1], ["a-cars", "cars", "c", ""]);
        assert_eq!(found.len(), 2);
        let both = Elsewhere {
            weights: Some("c".to_owned()),
            ..data
        };
        assert_eq!(on(&both), [["own-photos", own, "c", "pretrained"]]);
    }

    #[test]
    fn comparisons_with_arms_that_are_left_out_are_left_out() {
        let study = StudyConfig::parse(STUDY, "s.toml").unwrap();
        let two = Elsewhere {
            arms: vec!["two".to_owned()],
            ..Elsewhere::default()
        };
        let study = study.with(&two).unwrap();
        assert_eq!((study.arm.len(), study.compare.len()), (1, 1));
        assert_eq!(study.compare[0].with, "start");
    }
}
