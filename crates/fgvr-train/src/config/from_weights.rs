//! What pretrained weights say of the network and of the images it takes.

use fgvr_encoder::weights::{Preprocessing, Resize};
use fgvr_encoder::{NetworkConfig, Pooling};
use toml::Value;

use super::Layers;
use crate::weights_source::{architecture, open_weights};
use crate::{Error, Observer, Result};

impl Layers {
    /// Adds `weights.source`, and what the source brings along: architecture, image size,
    /// normalisation and how evaluation resizes. Layers that follow may ask for something else.
    ///
    /// # Errors
    /// A source that cannot be opened, or weights of no known architecture.
    pub fn weights(&mut self, source: &str, observer: &mut dyn Observer) -> Result<()> {
        let weights = open_weights(source, observer)?;
        let encoder = architecture(&weights, None);
        // Not beside what a preset says of another network.
        self.remove("encoder");
        self.set_value("weights.source", source)?;
        self.no_architecture = None;
        let encoder = match encoder {
            Ok(encoder) => encoder,
            // A layer that follows has to say it.
            Err(Error::Config { key, problem }) if key == "encoder.architecture" => {
                self.no_architecture = Some(problem);
                return self.view(weights.preprocessing());
            }
            Err(error) => return Err(error),
        };
        self.set_value("encoder.architecture", encoder.architecture.name())?;
        let network = encoder.network()?;
        if let NetworkConfig::Vit(vit) = &network {
            self.set_value("encoder.patch_size", count(vit.patch_size))?;
            // Only where the source asks for others than the architecture has.
            if let Some(heads) = encoder.heads {
                self.set_value("encoder.heads", count(heads))?;
            }
            if let Some(eps) = encoder.norm_eps {
                self.set_value("encoder.norm_eps", eps)?;
            }
            if encoder.pooling != Pooling::default() {
                self.set_value("encoder.pooling", encoder.pooling.name())?;
            }
        } else if let NetworkConfig::ResNet(_) = network {
            self.set_value("encoder.width", count(encoder.width))?;
            self.set_value("encoder.stem", encoder.stem.name())?;
        }
        self.view(weights.preprocessing())
    }

    /// Adds how images are seen. Images that are not square leave `data.size` open: a layer that follows
    /// has to give it.
    pub(crate) fn view(&mut self, preprocessing: &Preprocessing) -> Result<()> {
        let numbers = |values: &[f32; 3]| {
            // The decimals a person wrote, which f32 to f64 would lengthen.
            let number = |v: &f32| v.to_string().parse().unwrap_or_else(|_| f64::from(*v));
            Value::Array(values.iter().map(|v| Value::Float(number(v))).collect())
        };
        let [height, width] = preprocessing.size;
        if height == width {
            self.no_size = None;
            self.set_value("data.size", count(height))?;
        } else {
            self.remove("data.size");
            self.no_size = Some(format!(
                "the weights ask for images of {height} x {width} px, and squares are known here; give \
                 the side of one, such as --set data.size={}",
                height.max(width)
            ));
        }
        self.set_value("normalisation.mean", numbers(&preprocessing.mean))?;
        self.set_value("normalisation.std", numbers(&preprocessing.std))?;
        match preprocessing.resize {
            Resize::Exact => self.set_value("evaluate.squash", true)?,
            Resize::ShorterSide(side) => {
                let ratio = side as f64 / height.min(width) as f64;
                self.set_value("evaluate.resize_ratio", ratio.max(1.))?;
            }
        }
        let interpolation = preprocessing.interpolation.to_string();
        self.set_value("evaluate.interpolation", interpolation)
    }
}

fn count(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}
