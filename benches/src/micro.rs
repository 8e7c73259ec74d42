//! One pass of one convolution.

use anyhow::{Result, bail};
use fgvr_nn::kernels::conv::{self, ConvShape};

use crate::case::Case;
use crate::random;
use crate::shapes;

/// Which pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    GradInput,
    GradWeight,
}

impl Pass {
    pub(crate) const ALL: [Self; 3] = [Self::Forward, Self::GradInput, Self::GradWeight];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::GradInput => "grad-input",
            Self::GradWeight => "grad-weight",
        }
    }
}

/// The names of all cases, without `micro/`: networks first, then shapes, then passes. A shape that
/// two networks share stands once.
pub(crate) fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for size in shapes::NETWORKS {
        for shape in shapes::convolutions(size)? {
            for pass in Pass::ALL {
                // Nothing asks for the gradient of the images.
                if shape.c_in == 3 && pass == Pass::GradInput {
                    continue;
                }
                let name = format!("{}/{}", shapes::name(&shape), pass.name());
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    Ok(names)
}

/// A convolution with its operands.
pub(crate) struct Micro {
    shape: ConvShape,
    pass: Pass,
    x: Vec<f32>,
    weight: Vec<f32>,
    y: Vec<f32>,
}

impl Micro {
    /// `n16-h56-i64-o256-k1-s1-p0/forward`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let found = name.split_once('/').and_then(|(shape, pass)| {
            let pass = Pass::ALL.into_iter().find(|known| known.name() == pass)?;
            Some((shape, pass))
        });
        let Some((shape, pass)) = found else {
            bail!("`{name}`: expected a convolution and /forward, /grad-input or /grad-weight");
        };
        let shape = shapes::parse(shape)?;
        Ok(Self {
            pass,
            x: random::values(shape.input_len(), 0),
            weight: random::values(shape.weight_len(), 1),
            y: random::values(shape.output_len(), 2),
            shape,
        })
    }
}

impl Case for Micro {
    fn images(&self) -> usize {
        self.shape.n
    }

    fn operations(&self) -> Option<f64> {
        Some(2. * self.shape.multiplications() as f64)
    }

    fn step(&mut self) -> Result<()> {
        let Self {
            shape,
            pass,
            x,
            weight,
            y,
        } = self;
        match pass {
            Pass::Forward => conv::forward(shape, x, weight, y),
            Pass::GradInput => conv::grad_input(shape, y, weight, x),
            Pass::GradWeight => conv::grad_weight(shape, x, y, weight),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_pass_can_be_prepared_and_a_small_one_runs() {
        let names = names().unwrap();
        assert!(names.len() > 100, "{}", names.len());
        assert!(names.contains(&"n16-h56-i64-o256-k1-s1-p0/forward".to_owned()));
        for pass in Pass::ALL {
            let mut case = Micro::new(&format!("n1-h5-i3-o4-k3-s1-p1/{}", pass.name())).unwrap();
            assert_eq!(case.operations(), Some(2. * 25. * 4. * 27.));
            case.step().unwrap();
        }
        assert!(Micro::new("n1-h5-i3-o4-k3-s1-p1").is_err());
    }
}
