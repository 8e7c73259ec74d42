"""Weights and images computed from a name and an index: crates/fgvr-testkit/src/formula.rs in numpy.

    python benches/torch/formula.py

prints the checksums that the tests there hold. Both sides have the same bits: all is computed in f64 by
operations that IEEE 754 rounds one way, and rounded to f32 at the end.
"""

import math

import numpy as np

MASK = (1 << 64) - 1
COARSE = 16  # side of the squares of one brightness in `images`


def uniform(name, count):
    """Values in [-1, 1), multiples of 2^-23: the upper 24 bits of splitmix64 over the counter that begins
    after FNV-1a of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def span(name, shape):
    """Middle and half width of the values of a parameter, in timm's names."""
    last = name.rsplit(".", 1)[-1]
    fan_in = max(math.prod(shape[1:]), 1)
    if last == "running_mean":
        return 0.0, 0.25
    if last == "running_var":
        return 1.0, 0.5
    if last == "gamma":
        return 0.5, 0.25
    if last in ("cls_token", "reg_token", "pos_embed"):
        return 0.0, 0.5
    if last == "weight" and len(shape) == 1:
        # See the Rust side for why the last norm of a branch counts less.
        if name.endswith("bn3.weight"):
            return 0.25, 0.0625
        if name.endswith("bn2.weight"):
            return 0.5, 0.125
        return 1.0, 0.25
    if len(shape) <= 1:
        return 0.0, 0.25
    if len(shape) == 4 and not name.startswith("patch_embed"):
        return 0.0, math.sqrt(6.0 / fan_in)
    return 0.0, math.sqrt(3.0 / fan_in)


def weights(name, shape):
    """What the parameter called `name` holds, f32."""
    middle, half = span(name, shape)
    return (middle + half * uniform(name, math.prod(shape))).astype(np.float32).reshape(shape)


def images(name, n, h, w):
    """Images (N, 3, H, W): squares of one colour each, in [-1, 1), with noise of half that size upon them."""
    rows, columns = -(-h // COARSE), -(-w // COARSE)
    coarse = uniform(f"{name}.coarse", n * 3 * rows * columns).reshape(n, 3, rows, columns)
    coarse = coarse.repeat(COARSE, 2).repeat(COARSE, 3)[:, :, :h, :w]
    fine = uniform(f"{name}.fine", n * 3 * h * w).reshape(n, 3, h, w)
    return (coarse + 0.5 * fine).astype(np.float32)


def checksum(values):
    """The sum over i of (i + 1) times the bits of value i, modulo 2^64."""
    bits = np.ascontiguousarray(values, dtype=np.float32).ravel().view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return int((bits * (np.arange(bits.size, dtype=np.uint64) + np.uint64(1))).sum(dtype=np.uint64))


def fill(model):
    """Sets all parameters and running statistics of a timm or torchvision model."""
    import torch

    state = {
        name: value if name.endswith("num_batches_tracked") else torch.from_numpy(weights(name, tuple(value.shape)))
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state, strict=True)
    return model


def main():
    for name, shape in (
        ("conv1.weight", (64, 3, 7, 7)),
        ("layer2.0.downsample.0.weight", (128, 64, 1, 1)),
        ("layer1.0.bn2.weight", (64,)),
        ("layer3.5.bn3.running_var", (1024,)),
        ("pos_embed", (1, 197, 192)),
        ("blocks.11.attn.qkv.weight", (576, 192)),
        ("blocks.3.ls2.gamma", (384,)),
    ):
        dims = ", ".join(map(str, shape))
        print(f'("{name}", &[{dims}], {checksum(weights(name, shape)):#018x}),')
    print(f'images("images", [2, 40, 24]): {checksum(images("images", 2, 40, 24)):#018x}')


if __name__ == "__main__":
    main()
