"""Golden outputs of every architecture, for crates/fgvr-encoder/tests/parity.rs.

    python tests/golden/encoders.py tests/golden/encoders.safetensors

Made with PyTorch 2.15 and timm 1.0.31 on a CPU. Weights and images are not stored: both sides compute them
by formula (benches/torch/formula.py). Everything runs in f64 and is stored as f32. Per case, named
`NETWORK[@SIZE] NxHxW`: `pooled` and `map` with running statistics, `train.pooled` and `train.map` with batch
statistics, and `gradient`, that of sum(map * loss.map) + sum(pooled * loss.pooled) of the latter at the
images. Of each are stored, in one tensor: the largest absolute value; four sums of all values with signs
from a hash, divided by the square root of their number; and at most 160 values at even distances.

A gradient jumps where a ReLU's or ReLU6's input or a lead in a pooling window is within rounding of 0. So the images of
a convolutional network are that one of a few draws, `draw`, whose gradient goes least far when noise above the
rounding error of f32 moves every such input, and in PyTorch's own f32. `moved` holds how far it then goes at
most, and how far PyTorch's own f32 is off, at worst over all outputs, both as shares of the largest value.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches/torch"))
import formula  # noqa: E402
from parity import build, outputs, subject  # noqa: E402

CASES = [
    *((name, "2x64x64") for name in ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")),
    ("resnet18", "2x64x96"),
    ("tf_efficientnet_lite0", "2x64x96"),
    ("tf_efficientnet_lite0", "2x65x64"),  # TensorFlow pads a side of an odd number of pixels otherwise
    ("efficientnet_lite0", "2x64x96"),
    ("vit_tiny_patch16_224", "2x64x96"),  # fewer places than it was made for
    ("vit_tiny_patch16_224@64", "2x64x64"),
    ("vit_small_patch16_224", "2x64x96"),
    ("vit_base_patch16_224@64", "1x64x64"),
    ("vit_small_patch14_dinov2", "1x56x84"),
    ("vit_small_patch14_dinov2@70", "2x70x70"),
    ("vit_small_patch14_dinov2@56", "1x84x56"),  # more places in one direction
    ("vit_base_patch14_dinov2@56", "1x56x56"),
    ("vit_small_patch14_reg4_dinov2", "1x56x84"),
    ("vit_small_patch14_reg4_dinov2@70", "2x70x70"),
    ("vit_base_patch14_reg4_dinov2@56", "1x56x56"),
]
VALUES = 160
NOISE = 3e-7  # of the root mean square of a layer
DRAWS = 8


def share(a, b):
    """The largest difference as a share of the largest value."""
    return max(((a[name].double() - b[name]).abs().max() / b[name].abs().max()).item() for name in b)


def moved(model, images, exact):
    """How far the outputs go when noise moves what decides where gradients go."""
    torch.manual_seed(0)
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args: args[0] + NOISE * args[0].detach().square().mean().sqrt() * torch.randn_like(args[0])
        )
        for module in model.modules()
        if isinstance(module, (torch.nn.ReLU, torch.nn.ReLU6, torch.nn.MaxPool2d))
    ]
    # ReLUs in place would overwrite what the hook made, which is as well.
    found = max(share(outputs(model, images, torch.float64), exact) for _ in range(2))
    for hook in hooks:
        hook.remove()
    return found


def summary(name, values):
    flat = values.detach().double().numpy().ravel()
    signs = np.sign(formula.uniform(f"{name}.signs", 4 * flat.size).reshape(4, -1) + 2**-25)
    step = -(-flat.size // VALUES)
    return np.concatenate([[np.abs(flat).max()], signs @ flat / np.sqrt(flat.size), flat[::step]]).astype(np.float32)


def main(out):
    torch.set_num_threads(1)
    stored = {}
    for network, shape in CASES:
        name, image_size, (n, h, w) = subject(network, shape)
        model = build(name, image_size)
        best, kinks = None, not name.startswith("vit")
        for draw in range(DRAWS if kinks else 1):
            images = torch.from_numpy(formula.images(f"images.{draw}", n, h, w))
            exact = outputs(model, images, torch.float64)
            single = share(outputs(model, images, torch.float32), exact)
            far = max(moved(model, images, exact), single) if kinks else single
            if best is None or far < best[0]:
                best = far, draw, exact, single
            if far < 3e-5:
                break
        far, draw, exact, single = best
        print(network, shape, f"draw {draw}, moved {far:.1e}, f32 off by {single:.1e}", file=sys.stderr, flush=True)
        stored[f"{network} {shape} draw"] = np.array([draw], dtype=np.float32)
        stored[f"{network} {shape} moved"] = np.array([far, single], dtype=np.float32)
        for output, values in exact.items():
            stored[f"{network} {shape} {output}"] = summary(output, values)
    save_file(stored, out)
    print(Path(out).stat().st_size, "bytes", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
