//! Which of a repository's files hold the weights.

use std::collections::BTreeSet;

use super::error::{HubError, shown};
use super::name;
use super::reference::HubReference;
use crate::weights::AdaptationLayer;

/// What timm and transformers write beside weights, and what is needed to use them.
const COMPANIONS: [&str; 3] = [
    "config.json",
    "preprocessor_config.json",
    AdaptationLayer::FILE,
];

/// The usual files of weights, the best first.
const USUAL: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The files to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// The weights, or the index of their shards.
    pub(super) weights: String,
    /// Configuration beside them and at the top.
    pub(super) companions: Vec<String>,
}

impl Selection {
    /// Chooses among `names`: the file that the reference names; else one of the usual ones; else
    /// the only one that looks like weights.
    pub(super) fn of(reference: &HubReference, names: &BTreeSet<String>) -> Result<Self, HubError> {
        let repository = || reference.repository.clone();
        let revision = || reference.revision_or_main().to_owned();
        let all = || names.iter().cloned().collect();
        let usual = || USUAL.iter().find(|name| names.contains(**name));
        let weights = match (&reference.file, usual()) {
            (Some(file), _) if names.contains(file) => file.clone(),
            (Some(file), _) => {
                return Err(HubError::FileNotFound {
                    repository: repository(),
                    revision: revision(),
                    file: file.clone(),
                    found: all(),
                });
            }
            (None, Some(name)) => (*name).to_owned(),
            (None, None) => {
                let like = |name: &&String| {
                    let last = name.rsplit('/').next();
                    last != Some(AdaptationLayer::FILE)
                        && [".safetensors", ".pth", ".pth.tar"]
                            .iter()
                            .any(|ending| name.ends_with(ending))
                };
                let mut found: Vec<String> = names.iter().filter(like).cloned().collect();
                match (found.pop(), found.is_empty()) {
                    (Some(only), true) => only,
                    (Some(last), false) => {
                        found.push(last);
                        return Err(HubError::SeveralWeights {
                            repository: repository(),
                            revision: revision(),
                            found: found.iter().map(|name| shown(name)).collect(),
                        });
                    }
                    (None, _) => {
                        return Err(HubError::NoWeights {
                            repository: repository(),
                            revision: revision(),
                            found: all(),
                        });
                    }
                }
            }
        };
        check(&reference.repository, &weights)?;
        let folder = folder(&weights);
        let mut companions: Vec<String> = Vec::new();
        for name in COMPANIONS {
            for name in [format!("{folder}{name}"), name.to_owned()] {
                if names.contains(&name) && name != weights && !companions.contains(&name) {
                    companions.push(name);
                }
            }
        }
        Ok(Self {
            weights,
            companions,
        })
    }

    /// Whether the weights are an index that names shards.
    pub(super) fn is_index(&self) -> bool {
        self.weights.ends_with(".index.json")
    }

    /// The shards that the index with content `text` names, as names in the repository.
    ///
    /// An index is JSON with `weight_map`, from each tensor's name to the name of its file, beside
    /// the index.
    pub(super) fn shards(
        &self,
        text: &[u8],
        names: &BTreeSet<String>,
    ) -> Result<Vec<String>, HubError> {
        let error = |reason: String| HubError::Index {
            file: self.weights.clone(),
            reason,
        };
        let index: serde_json::Value =
            serde_json::from_slice(text).map_err(|e| error(format!("not JSON: {e}")))?;
        let Some(map) = index.get("weight_map").and_then(|map| map.as_object()) else {
            return Err(error("no `weight_map` from tensors to files".to_owned()));
        };
        let mut shards = BTreeSet::new();
        for (tensor, file) in map {
            let Some(file) = file.as_str() else {
                let tensor = shown(tensor);
                return Err(error(format!("the file of {tensor} is no text")));
            };
            check(&self.weights, file)?;
            let file = format!("{}{file}", folder(&self.weights));
            if !names.contains(&file) {
                return Err(error(format!("the shard {file} is not there")));
            }
            shards.insert(file);
        }
        if shards.is_empty() {
            return Err(error("`weight_map` names no file".to_owned()));
        }
        Ok(shards.into_iter().collect())
    }
}

fn check(source_of: &str, name: &str) -> Result<(), HubError> {
    name::check(name).map_err(|reason| HubError::Name {
        source_of: source_of.to_owned(),
        name: shown(name),
        reason,
    })
}

/// The folder of a name with its slash; empty at the top.
fn folder(name: &str) -> &str {
    name.rfind('/').map_or("", |slash| &name[..=slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(reference: &str, names: &[&str]) -> Result<Selection, HubError> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Selection::of(&reference.parse().unwrap(), &names)
    }

    #[test]
    fn the_named_file_goes_before_the_usual_ones_in_their_order() {
        let names = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "old/x.pth",
            "old/config.json",
        ];
        let chosen = choose("a/b:old/x.pth", &names).unwrap();
        assert_eq!(chosen.weights, "old/x.pth");
        assert_eq!(chosen.companions, ["old/config.json", "config.json"]);
        let chosen = choose("a/b", &names).unwrap();
        assert_eq!(chosen.weights, "model.safetensors");
        assert_eq!(chosen.companions, ["config.json"]);
        assert_eq!(
            choose("a/b", &names[2..]).unwrap().weights,
            "pytorch_model.bin"
        );
        let index = ["x.safetensors", "pytorch_model.bin.index.json"];
        let chosen = choose("a/b", &index).unwrap();
        assert_eq!(chosen.weights, index[1]);
        assert!(chosen.is_index());
        assert_eq!(choose("a/b", &index[..1]).unwrap().weights, index[0]);
        let tar = choose("a/b", &["moco.pth.tar", "README.md"]).unwrap();
        assert_eq!(tar.weights, "moco.pth.tar");
    }

    #[test]
    fn none_or_several_files_of_weights_are_an_error_that_lists_them() {
        let text = |names: &[&str]| choose("a/b", names).unwrap_err().to_string();
        let several = text(&["a.pth", "b.safetensors", "c.txt"]);
        assert!(several.contains("a.pth, b.safetensors"), "{several}");
        assert!(several.contains("as in a/b:a.pth"), "{several}");
        assert!(text(&["notes.txt"]).contains("it has notes.txt"));
        assert!(text(&[]).contains("it lists no files"));
        let missing = choose("a/b:x.pth", &["y.pth"]).unwrap_err().to_string();
        assert!(missing.contains("no file x.pth; it has y.pth"), "{missing}");
    }

    #[test]
    fn an_index_names_its_shards_beside_it_and_nothing_else() {
        let names = [
            "s/model.safetensors.index.json",
            "s/1.safetensors",
            "s/2.safetensors",
        ];
        let set = names.iter().map(|name| (*name).to_owned()).collect();
        let chosen = choose(&format!("a/b:{}", names[0]), &names).unwrap();
        let shards = |text: &str| chosen.shards(text.as_bytes(), &set);
        let good =
            r#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#;
        assert_eq!(shards(good).unwrap(), names[1..]);
        for (text, reason) in [
            ("x", "not JSON"),
            ("{}", "no `weight_map`"),
            (r#"{"weight_map": {}}"#, "names no file"),
            (r#"{"weight_map": {"a": 1}}"#, "is no text"),
            (
                r#"{"weight_map": {"a": "3.safetensors"}}"#,
                "s/3.safetensors is not there",
            ),
            (r#"{"weight_map": {"a": "../1.safetensors"}}"#, "`..`"),
            (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "absolute"),
            (r#"{"weight_map": {"a": "..\\x"}}"#, "backslash"),
        ] {
            let error = shards(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
