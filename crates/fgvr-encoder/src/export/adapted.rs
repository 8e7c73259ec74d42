//! An adaptation as the classifier layer of the network whose features it takes.
//!
//! W (f - μ) = W f - W μ is a linear layer of C outputs behind the features f. Libraries have a place for one: it is where
//! a network trained with labels has its classes. So a program that knows nothing of fgvr gives the adapted features by
//! its plain forward pass. `config.json` says that the layer is no head over classes.

use serde_json::{Value, json};

use super::{Export, Format, transformers};
use crate::weights::AdaptationLayer;
use crate::{Error, NetworkConfig};

impl Export {
    /// The same export with `adaptation` as its classifier layer: weight W and bias -W μ under the format's name, C
    /// outputs, and a mark in `config.json`. [`Export::save`] then writes the adaptation itself beside the weights, as
    /// [`AdaptationLayer::FILE`], so that nothing is lost to the folding.
    ///
    /// # Errors
    /// [`Error::Export`] for an adaptation of another width than the features, for an export that has one already, and
    /// where the format has no place for it.
    pub fn adapted(mut self, adaptation: &AdaptationLayer) -> Result<Self, Error> {
        let problem = |problem: String| Err(Error::Export { problem });
        if self.adaptation.is_some() {
            return problem("there is an adaptation in it already".to_owned());
        }
        let (c, width) = (adaptation.width(), self.width);
        if c != width {
            return problem(format!(
                "the adaptation is of {c} features, and the network gives {width}"
            ));
        }
        let mut weight = adaptation.weight().clone();
        let layer = match self.format {
            Format::Timm => timm_layer(&self.network),
            Format::Transformers => {
                let classifier = transformers::classify(&mut self.config, &self.network, c)?;
                let tensors = std::mem::take(&mut self.tensors).into_iter();
                self.tensors = tensors
                    .map(|(name, tensor)| (format!("{}{name}", classifier.prefix), tensor))
                    .collect();
                if let transformers::Input::Both { second } = classifier.input {
                    weight = adaptation.beside_zeros(second)?;
                }
                classifier.layer
            }
        };
        let bias = adaptation.bias()?;
        self.tensors.insert(format!("{layer}.weight"), weight);
        self.tensors.insert(format!("{layer}.bias"), bias);
        let names = (0..c).map(|i| format!("adapted feature {i}"));
        match self.format {
            Format::Timm => {
                self.config["num_classes"] = json!(c);
                self.config["label_names"] = names.collect();
                self.config["pretrained_cfg"]["num_classes"] = json!(c);
                self.config["pretrained_cfg"]["tag"] = json!("fgvr_adapted");
                self.config["pretrained_cfg"]["notes"] = json!([NOTE]);
            }
            Format::Transformers => {
                let named = names
                    .enumerate()
                    .map(|(i, name)| (i.to_string(), json!(name)));
                self.config["id2label"] = Value::Object(named.collect());
            }
        }
        let mut mark = json!(adaptation.notes());
        mark["layer"] = json!(layer);
        mark["features"] = json!(c);
        mark["file"] = json!(AdaptationLayer::FILE);
        mark["note"] = json!(NOTE);
        self.config["fgvr"]["adaptation"] = mark;
        self.adaptation = Some(adaptation.clone());
        Ok(self)
    }

    /// The adaptation that is folded in, if there is one.
    #[must_use]
    pub fn adaptation(&self) -> Option<&AdaptationLayer> {
        self.adaptation.as_ref()
    }
}

/// What a person who reads the configuration should know.
const NOTE: &str = "the classifier layer is no head over classes: its outputs are adapted features W (f - mean), to be \
                    compared by cosine";

/// Where timm has the classifier.
fn timm_layer(network: &NetworkConfig) -> &'static str {
    match network {
        NetworkConfig::ResNet(_) => "fc",
        NetworkConfig::EfficientNet(_) => "classifier",
        NetworkConfig::Vit(_) => "head",
    }
}
