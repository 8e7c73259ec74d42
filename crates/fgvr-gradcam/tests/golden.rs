//! Grad-CAM and the overlay against PyTorch (`tests/golden/gradcam.py`).

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use fgvr_gradcam::{ColourMap, Sign, grad_cam, grad_cam_of, grad_cam_signed, overlay};

fn golden() -> HashMap<String, Tensor> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/gradcam.safetensors"
    );
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.dims(), b.dims());
    let off = (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap();
    let off = off.to_scalar::<f32>().unwrap();
    assert!(off <= tolerance, "off by {off}");
}

#[test]
fn grad_cam_is_pytorchs() {
    let golden = golden();
    let (map, grad) = (&golden["map"], &golden["grad"]);
    assert_close(&grad_cam(map, grad).unwrap(), &golden["cam"], 1e-5);
    let lower = grad_cam_signed(map, grad, Sign::LowersLoss).unwrap();
    assert_close(&lower, &golden["cam_lowers"], 1e-5);
}

#[test]
fn the_closures_gradient_is_pytorchs() {
    let golden = golden();
    let cam = grad_cam_of(&golden["map"], |map| {
        let logits = map.mean((2, 3))?.matmul(&golden["weight"].t()?)?;
        candle_nn::loss::cross_entropy(&logits, &golden["targets"])
    });
    assert_close(&cam.unwrap(), &golden["cam"], 1e-5);
}

#[test]
fn the_overlay_is_resized_as_pytorch_does() {
    let golden = golden();
    let cam = golden["cam"].get(0).unwrap();
    let out = overlay(&golden["image"], &cam, ColourMap::Gray).unwrap();
    assert_close(&out, &golden["overlay"], 1e-5);
}
