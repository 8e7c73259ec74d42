//! Grad-CAM of a candle model of one's own: a small convolutional network learns to tell squares, crosses and empty
//! images apart, and the map shows where it looks.
//!
//! `cargo run --example own_model [OUT.ppm]` takes a few seconds; with a file it also writes the picture.

use std::error::Error;
use std::io::Write as _;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, Optimizer, VarBuilder, VarMap};
use fgvr_gradcam::{ColourMap, Sign, grad_cam_signed, overlay};

const SIZE: usize = 16;
const IMAGES: usize = 36;
const STEPS: usize = 80;

/// Two convolutions, the mean over places, a linear layer: where one looks, any network.
struct Network {
    first: Conv2d,
    second: Conv2d,
    head: Linear,
}

impl Network {
    fn new(vb: &VarBuilder) -> Result<Self> {
        let cfg = Conv2dConfig {
            padding: 1,
            ..Conv2dConfig::default()
        };
        Ok(Self {
            first: candle_nn::conv2d(3, 8, 3, cfg, vb.pp("first"))?,
            second: candle_nn::conv2d(8, 8, 3, cfg, vb.pp("second"))?,
            head: candle_nn::linear(8, 3, vb.pp("head"))?,
        })
    }

    /// The feature map (N, 8, h, w) of images (N, 3, H, W).
    fn map(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.first.forward(images)?.relu()?.avg_pool2d(2)?;
        self.second.forward(&x)?.relu()
    }

    /// The logits (N, 3) of a feature map.
    fn logits(&self, map: &Tensor) -> Result<Tensor> {
        self.head.forward(&map.mean((2, 3))?)
    }
}

/// An image (3, H, W), values in [0, 1], of a square (class 0), a cross (class 1) or nothing (class 2), in one of
/// its quarters, and the middle of it: row and column.
fn image(index: usize) -> (Vec<f32>, u32, [usize; 2]) {
    let class = index % 3;
    let (top, left) = (4 + 7 * (index / 3 % 2), 4 + 7 * (index / 6 % 2));
    let mut pixels = vec![0.1; 3 * SIZE * SIZE];
    for y in 0..5 {
        for x in 0..5 {
            let border = y % 4 == 0 || x % 4 == 0;
            let cross = y == 2 || x == 2;
            if [border, cross, false][class] {
                for (channel, value) in [0.9, 0.8, 0.2].into_iter().enumerate() {
                    let jitter = (index * 31 + y * 7 + x) as f32 * 0.37;
                    let at = (channel * SIZE + top - 2 + y) * SIZE + left - 2 + x;
                    pixels[at] = value + 0.1 * jitter.sin();
                }
            }
        }
    }
    (pixels, class as u32, [top, left])
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let device = Device::Cpu;
    let variables = VarMap::new();
    let network = Network::new(&VarBuilder::from_varmap(&variables, DType::F32, &device))?;
    // The same start at every run: candle's generator for the CPU cannot be seeded.
    for (at, name) in ["first", "second", "head"].into_iter().enumerate() {
        let data = variables.data().lock().map_err(|_| "a lock is poisoned")?;
        let weight = data
            .get(&format!("{name}.weight"))
            .ok_or("no such variable")?;
        let count = weight.elem_count();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i + 97 * at) as f32 * 12.9898).sin() * 0.3)
            .collect();
        weight.set(&Tensor::from_vec(values, weight.shape(), &device)?)?;
    }

    let drawn: Vec<_> = (0..IMAGES).map(image).collect();
    let pixels: Vec<f32> = drawn
        .iter()
        .flat_map(|(pixels, ..)| pixels.clone())
        .collect();
    let images = Tensor::from_vec(pixels, (IMAGES, 3, SIZE, SIZE), &device)?;
    let labels: Vec<u32> = drawn.iter().map(|(_, label, _)| *label).collect();
    let labels = Tensor::new(labels, &device)?;

    let mut optimizer = candle_nn::AdamW::new_lr(variables.all_vars(), 0.02)?;
    let mut loss = 0f32;
    for _ in 0..STEPS {
        let logits = network.logits(&network.map(&images)?)?;
        let step = candle_nn::loss::cross_entropy(&logits, &labels)?;
        optimizer.backward_step(&step)?;
        loss = step.to_scalar()?;
    }

    // The map as a leaf, so that candle keeps the gradient there.
    let map = candle_core::Var::from_tensor(&network.map(&images)?.detach())?;
    let logits = network.logits(map.as_tensor())?;
    let gradients = candle_nn::loss::cross_entropy(&logits, &labels)?.backward()?;
    let gradient = gradients.get(&map).ok_or("no gradient at the map")?;
    // What lowers the loss speaks for the right class.
    let cam = grad_cam_signed(map.as_tensor(), gradient, Sign::LowersLoss)?;

    let (_, h, w) = cam.dims3()?;
    // Of images with a shape: how many there are, and in how many the brightest place is on it.
    let (mut shapes, mut on_shape) = (0, 0);
    for (cam, (_, label, [top, left])) in cam.to_vec3::<f32>()?.iter().zip(&drawn) {
        if *label == 2 {
            continue;
        }
        let places = (0..h * w).max_by(|a, b| cam[a / w][a % w].total_cmp(&cam[b / w][b % w]));
        let place = places.ok_or("an empty map")?;
        let (y, x) = (place / w * SIZE / h, place % w * SIZE / w);
        shapes += 1;
        on_shape += usize::from(y.abs_diff(*top) <= 4 && x.abs_diff(*left) <= 4);
    }
    let mut out = std::io::stdout();
    writeln!(out, "loss after {STEPS} steps: {loss:.4}")?;
    writeln!(
        out,
        "the brightest place is on the shape in {on_shape} of {shapes} images with one"
    )?;
    if let Some(path) = std::env::args_os().nth(1) {
        let picture = overlay(&images.get(0)?, &cam.get(0)?, ColourMap::Viridis)?;
        // (3, H, W) -> (H, W, 3)
        let bytes = (picture.permute((1, 2, 0))? * 255.)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let mut file = format!("P6\n{SIZE} {SIZE}\n255\n").into_bytes();
        file.extend(bytes.iter().map(|v| v.round() as u8));
        std::fs::write(path, file)?;
    }
    Ok(())
}
