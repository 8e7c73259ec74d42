//! Projectors and predictors: small perceptrons, on candle's autograd or on a tape.

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{ModuleT, VarBuilder};
use fgvr_nn::layers::{self, After, BatchNorm, BatchNormConfig, Gelu, Linear};
use fgvr_nn::{Activation, NormMode, Tape};

use crate::bases::head::relu;
use crate::bases::projection::Projection;

/// What follows each layer but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationFunction {
    /// max(x, 0).
    Relu,
    /// x Φ(x).
    Gelu,
}

/// The shape of an [`Mlp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpConfig {
    /// Number of linear layers, at least 1.
    pub layers: usize,
    /// Width between them.
    pub hidden: usize,
    /// Width of the output.
    pub out: usize,
    /// Whether batch norm follows each layer but the last.
    pub norm: bool,
    /// Whether batch norm without weight and bias follows the last layer.
    pub last_norm: bool,
    /// Whether the layers have a bias: each but the last, and the last.
    pub bias: [bool; 2],
    /// What follows each layer but the last.
    pub activation: ActivationFunction,
}

/// Linear, batch norm, activation, and so on, up to a last linear layer. Its variables are numbered
/// under the builder's prefix as PyTorch's `Sequential` of the same modules numbers them.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    activation: ActivationFunction,
}

impl Mlp {
    /// A perceptron from `width` through the configured layers.
    ///
    /// # Errors
    /// No layer, a width of zero, or variables of other shapes in the builder.
    pub fn new(width: usize, cfg: &MlpConfig, vb: VarBuilder<'_>) -> Result<Self> {
        if cfg.layers == 0 || (cfg.layers > 1 && cfg.hidden == 0) || cfg.out == 0 {
            bail!("mlp: expected a layer or more of a width of 1 or more, found {cfg:?}");
        }
        let (mut layers, mut module, mut width) = (Vec::new(), 0, width);
        for layer in 1..=cfg.layers {
            let last = layer == cfg.layers;
            let out = if last { cfg.out } else { cfg.hidden };
            let linear = Linear::new(width, out, cfg.bias[usize::from(last)], vb.pp(module))?;
            let norm = BatchNormConfig {
                affine: !last,
                ..BatchNormConfig::default()
            };
            let norm = match if last { cfg.last_norm } else { cfg.norm } {
                true => {
                    module += 1;
                    Some(BatchNorm::with_config(out, &norm, vb.pp(module))?)
                }
                false => None,
            };
            layers.push((linear, norm));
            // The linear layer (or its norm) just counted, and the activation.
            module += 2;
            width = out;
        }
        Ok(Self {
            layers,
            activation: cfg.activation,
        })
    }

    /// (N, C) -> (N, D).
    ///
    /// # Errors
    /// Another width, or batch statistics of a single row.
    pub fn forward(&self, x: &Tensor, norm: NormMode) -> Result<Tensor> {
        self.forward_dropped(x, norm, None)
    }

    /// As [`Mlp::forward`], with the input of the last layer times `kept` (N, hidden): dropout, whose draw
    /// is the caller's.
    ///
    /// # Errors
    /// As [`Mlp::forward`], and factors of another shape.
    pub fn forward_dropped(
        &self,
        x: &Tensor,
        norm: NormMode,
        kept: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, (linear, batch_norm)) in self.layers.iter().enumerate() {
            if let (Some(kept), true) = (kept, i + 1 == self.layers.len()) {
                x = (x * kept)?;
            }
            x = linear.forward_t(&x, true)?;
            if let Some(batch_norm) = batch_norm {
                x = batch_norm.forward(&x, norm)?;
            }
            if i + 1 < self.layers.len() {
                x = match self.activation {
                    ActivationFunction::Relu => relu(&x)?,
                    ActivationFunction::Gelu => Gelu.forward(&x)?,
                };
            }
        }
        Ok(x)
    }

    /// Features through all layers; `kept` as in [`Mlp::forward_dropped`], which a tape does not have.
    pub(crate) fn project(
        &self,
        features: Projection,
        norm: NormMode,
        kept: Option<&Tensor>,
    ) -> Result<Projection> {
        features.through(
            |x| self.forward_dropped(x, norm, kept),
            |tape, x| match kept {
                None => self.apply(tape, x, norm),
                Some(_) => bail!("mlp: there is no dropout on a device"),
            },
        )
    }

    /// (N, 1, 1, C) -> (N, 1, 1, D) on a tape.
    ///
    /// # Errors
    /// As [`Mlp::forward`].
    pub fn apply(
        &self,
        tape: &mut Tape,
        pooled: &Activation,
        norm: NormMode,
    ) -> Result<Activation> {
        let mut x = pooled.clone();
        for (i, (linear, batch_norm)) in self.layers.iter().enumerate() {
            let activation = (i + 1 < self.layers.len()).then_some(self.activation);
            let relu = activation == Some(ActivationFunction::Relu);
            x = linear.apply(tape, &x)?;
            x = match batch_norm {
                Some(batch_norm) => {
                    let after = After {
                        relu,
                        residual: None,
                    };
                    batch_norm.apply(tape, &x, norm, after)?
                }
                None if relu => layers::relu(tape, &x)?,
                None => x,
            };
            if activation == Some(ActivationFunction::Gelu) {
                x = Gelu.apply(tape, &x)?;
            }
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use fgvr_nn::{ParameterGradients, Parameters};
    use fgvr_testkit::{GradCheck, assert_close, gradcheck, normal};

    const CONFIG: MlpConfig = MlpConfig {
        layers: 3,
        hidden: 7,
        out: 4,
        norm: true,
        last_norm: true,
        bias: [false, true],
        activation: ActivationFunction::Gelu,
    };

    fn mlp(cfg: &MlpConfig) -> (Mlp, Parameters) {
        let parameters = Parameters::new(3);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        (Mlp::new(5, cfg, vb).unwrap(), parameters)
    }

    #[test]
    fn names_are_those_of_a_pytorch_sequential() {
        let names = |cfg| mlp(&cfg).1.trainable().into_keys().collect::<Vec<_>>();
        let norms = [
            "0.weight", "1.bias", "1.weight", "3.weight", "4.bias", "4.weight", "6.bias",
            "6.weight",
        ];
        assert_eq!(names(CONFIG), norms);
        let plain = MlpConfig {
            norm: false,
            last_norm: false,
            bias: [true, false],
            ..CONFIG
        };
        assert_eq!(
            names(plain),
            ["0.bias", "0.weight", "2.bias", "2.weight", "4.weight"]
        );
        assert!(mlp(&CONFIG).1.buffers().contains_key("7.running_var"));
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for activation in [ActivationFunction::Relu, ActivationFunction::Gelu] {
            let (mlp, parameters) = mlp(&MlpConfig {
                activation,
                ..CONFIG
            });
            let x = Var::from_tensor(&normal(1, (6, 5))).unwrap();
            let weight = normal(2, (6, 4));
            let loss = || {
                let y = mlp.forward(&x, NormMode::NoUpdate)?;
                (y * &weight)?.sum_all()
            };
            let gradients = loss().unwrap().backward().unwrap();
            let mut vars = parameters.trainable();
            vars.insert("x".to_owned(), x.clone());
            // In front of a norm without bias, a bias changes nothing: its gradient is rounding.
            vars.remove("6.bias");
            for (name, var) in vars {
                let flat = |t: &Tensor| -> Vec<f64> {
                    t.to_dtype(DType::F64)
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .to_vec1()
                        .unwrap()
                };
                let start = flat(&var);
                let of = |values: &[f64]| {
                    let values = Tensor::from_slice(values, var.dims(), &Device::Cpu).unwrap();
                    var.set(&values.to_dtype(DType::F32).unwrap()).unwrap();
                    f64::from(loss().unwrap().to_scalar::<f32>().unwrap())
                };
                let found = flat(gradients.get(&var).unwrap());
                let check = GradCheck {
                    step: 3e-3,
                    rel: 2e-2,
                };
                gradcheck(&name, of, &start, &found, &check);
                of(&start);
            }
        }
    }

    #[test]
    fn a_tape_gives_the_values_and_gradients_of_candle() {
        for (activation, norm) in [
            (ActivationFunction::Relu, true),
            (ActivationFunction::Gelu, true),
            (ActivationFunction::Relu, false),
        ] {
            let (mlp, parameters) = mlp(&MlpConfig {
                activation,
                norm,
                last_norm: norm,
                ..CONFIG
            });
            let x = Var::from_tensor(&normal(1, (6, 5))).unwrap();
            let weight = normal(2, (6, 4));
            let mut tape = Tape::recording();
            let entered = tape.input(x.as_tensor(), true).unwrap();
            let y = mlp.apply(&mut tape, &entered, NormMode::NoUpdate).unwrap();
            let y = tape.output_vector(&y).unwrap();
            let expected = mlp.forward(&x, NormMode::NoUpdate).unwrap();
            assert_close("values", &y, &expected, 1e-5);
            let mut found = ParameterGradients::default();
            let leaves = (y.as_tensor() * &weight).unwrap().sum_all().unwrap();
            let dx = tape.backward(&leaves.backward().unwrap(), &mut found);
            let loss = (expected * &weight).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let at_x = gradients.get(&x).unwrap();
            assert_close("x", &dx.unwrap().unwrap(), at_x, 1e-4);
            let mut vars = parameters.trainable();
            // In front of a norm: as above.
            vars.remove("6.bias");
            for (name, var) in vars {
                let (found, expected) = (found.get(&var).unwrap(), gradients.get(&var).unwrap());
                assert_close(&name, found, expected, 1e-4);
            }
        }
    }

    #[test]
    fn dropout_is_a_factor_in_front_of_the_last_layer() {
        let cfg = MlpConfig {
            layers: 2,
            last_norm: false,
            ..CONFIG
        };
        let (mlp, parameters) = mlp(&cfg);
        let x = normal(1, (6, 5));
        let rows = |kept: Option<&Tensor>| {
            let y = mlp.forward_dropped(&x, NormMode::NoUpdate, kept).unwrap();
            y.to_vec2::<f32>().unwrap()
        };
        let ones = Tensor::ones((6, 7), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(rows(None), rows(Some(&ones)));
        let dropped = rows(Some(&ones.zeros_like().unwrap()));
        let bias = parameters.trainable()["3.bias"].to_vec1::<f32>().unwrap();
        assert!(dropped.iter().all(|row| *row == bias));
        let narrow = ones.narrow(1, 0, 3).unwrap();
        assert!(
            mlp.forward_dropped(&x, NormMode::NoUpdate, Some(&narrow))
                .is_err()
        );
    }

    #[test]
    fn no_layer_is_an_error() {
        let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
        let error = Mlp::new(
            5,
            &MlpConfig {
                layers: 0,
                ..CONFIG
            },
            vb,
        )
        .unwrap_err();
        assert!(error.to_string().contains("expected a layer"), "{error}");
    }
}
