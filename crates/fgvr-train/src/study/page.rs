//! The page of a study.

use std::collections::BTreeMap;

use fgvr_report::{Picture, Plot, Report, Section, Series};

use super::StudyConfig;
use super::jobs::Job;
use super::report::{DataReport, StudyReport};
use crate::Result;
use crate::run_report::newest_pictures;

/// Pictures by data set.
pub(super) type Pictures = BTreeMap<String, Vec<Picture>>;

/// Sheets that every run has, or that show no decoded image.
const OTHERS: [&str; 3] = ["views", "gradcam", "maps"];

/// The newest sheets of decoded images, of the first run of each arm that makes some.
///
/// # Errors
/// A picture that cannot be read.
pub(super) fn decoded(jobs: &[Job]) -> Result<Pictures> {
    let mut pictures = Pictures::new();
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for job in jobs.iter().filter(|job| job.is_trained()) {
        let (arm, samples) = (
            (job.data.as_str(), job.arm.as_str()),
            job.folder.join("samples"),
        );
        if shown.contains(&arm) || !samples.is_dir() {
            continue;
        }
        let is_decoded = |picture: &Picture| {
            let name = picture.caption.split(' ').skip(2).collect::<Vec<_>>();
            !OTHERS.contains(&name.join(" ").as_str())
        };
        let newest = newest_pictures(&samples)?.into_iter().filter(is_decoded);
        let newest: Vec<Picture> = newest
            .map(|picture| Picture {
                caption: format!("{}: {}", job.line(), picture.caption),
                ..picture
            })
            .collect();
        if !newest.is_empty() {
            shown.push(arm);
            pictures.entry(job.data.clone()).or_default().extend(newest);
        }
    }
    Ok(pictures)
}

impl StudyReport {
    /// The page, with the pictures of each data set.
    #[must_use]
    pub(super) fn page(&self, study: &StudyConfig, pictures: &Pictures) -> Report {
        let [done, wanted] = self.done;
        let seeds: Vec<String> = study.seeds.iter().map(ToString::to_string).collect();
        let facts = [
            ("runs done", format!("{done} of {wanted}")),
            ("seeds", seeds.join(", ")),
            ("control", self.control.clone()),
            ("figures", "of the last checkpoint".to_owned()),
        ];
        let mut sections = Vec::new();
        for data in &self.data {
            sections.push(Section {
                title: data.name.clone(),
                text: format!(
                    "{}\n\nA gain is called one only where the difference to {} has one sign in all \
                     seeds (three at least) and exceeds two standard deviations of the differences.",
                    study.about, self.control
                ),
                plots: data.plots(),
                ..Section::default()
            });
            let tables = self.tables_of(data).into_iter();
            sections.extend(tables.map(|(title, table)| Section {
                title,
                tables: vec![table],
                ..Section::default()
            }));
            if let Some(pictures) = pictures.get(&data.name).filter(|all| !all.is_empty()) {
                sections.push(Section {
                    title: format!("{}: decoded images", data.name),
                    text: "Of the last epoch that was drawn, for each arm that decodes any, of its first run. A pair is the \
                           reconstruction of the features and that of the perturbed features; their difference is what the \
                           encoder learns to ignore."
                        .to_owned(),
                    pictures: pictures.clone(),
                    ..Section::default()
                });
            }
        }
        Report {
            title: self.name.clone(),
            facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
            sections,
        }
    }
}

impl DataReport {
    /// Online kNN over time, a line an arm: the mean over seeds where all of them have a figure.
    fn plots(&self) -> Vec<Plot> {
        let series: Vec<Series> = self
            .arms
            .iter()
            .filter_map(|arm| {
                let shortest = arm.curves.iter().map(|(_, curve)| curve.len()).min()?;
                let seeds = arm.curves.len() as f64;
                let points = (0..shortest).map(|i| {
                    let sum = arm.curves.iter().fold((0., 0.), |sum, (_, curve)| {
                        (sum.0 + curve[i].0 / 60., sum.1 + 100. * curve[i].1)
                    });
                    (sum.0 / seeds, sum.1 / seeds)
                });
                Some(Series {
                    name: arm.name.clone(),
                    points: points.collect(),
                })
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if series.is_empty() {
            return Vec::new();
        }
        vec![Plot {
            title: "kNN on validation images, percent".to_owned(),
            x_label: "minutes of training".to_owned(),
            series,
            ..Plot::default()
        }]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use candle_core::{Device, Tensor};
    use fgvr_data::encode_png;

    use super::super::judgements::Judgements;
    use super::super::report::Found;
    use super::*;
    use crate::Silent;

    const STUDY: &str = r#"
name = "tiny"
seeds = [0, 1]
control = "base"
[[data]]
name = "birds"
source = "builtin:lookalikes"
[[arm]]
name = "base"
[[arm]]
name = "full"
"#;

    /// A picture that no other name has.
    fn picture(name: &str) -> Vec<u8> {
        let shade = name.bytes().map(f32::from).sum::<f32>() % 10. / 10.;
        let image = Tensor::full(shade, (3, 2, 2), &Device::Cpu).unwrap();
        encode_png(&image).unwrap()
    }

    #[test]
    fn each_arm_shows_the_newest_decoded_images_of_its_first_run() {
        let out = tempfile::tempdir().unwrap();
        let study = StudyConfig::parse(STUDY, "s.toml").unwrap();
        let jobs = study.jobs(out.path(), &mut Silent).unwrap();
        for job in &jobs {
            let samples = job.folder.join("samples");
            fs::create_dir_all(&samples).unwrap();
            fs::write(job.folder.join("eval.json"), "{}").unwrap();
            for name in ["0001-views", "0001-pairs", "0002-views", "0002-pairs"] {
                if job.arm == "full" || name.ends_with("views") {
                    let path = samples.join(format!("epoch-{name}.png"));
                    fs::write(path, picture(name)).unwrap();
                }
            }
        }
        let found = decoded(&jobs).unwrap();
        let captions: Vec<_> = found["birds"].iter().map(|p| p.caption.as_str()).collect();
        assert_eq!(captions, ["birds, full, seed 0: epoch 0002 pairs"]);
        assert_eq!(found["birds"][0].png, picture("0002-pairs"));
        let nothing = (&Found::default(), &Judgements::default());
        let report = StudyReport::new(&study, nothing, [0, 4]).unwrap();
        let page = report.page(&study, &found).to_html().unwrap();
        assert_eq!(page.matches("data:image/png;base64,").count(), 1);
    }
}
