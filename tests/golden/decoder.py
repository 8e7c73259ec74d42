"""Golden tensors of a small convolutional decoder, for crates/fgvr-decoder/tests/golden.rs.

    python tests/golden/decoder.py tests/golden/decoder.safetensors

Made with PyTorch 2.15 on a CPU, in f64, stored as f32. Two cases of the plain decoder: `exact`, whose blocks end at the
image's size (12 px from 3 places), and `resized`, which starts at 3 places, ends its block at 6 and
goes to 13 px by bilinear interpolation (align_corners=False). Three more have blocks of two
convolutions and a shortcut (`residual`), start from a map (`map`), or both (`residual_map`). Stored per case: parameters and
running statistics (`case.init.NAME`), `pooled`, `target`, train-mode `images`, `loss`, running
statistics after that forward (`case.running.NAME`), gradients of the mean squared difference at
every parameter and at `pooled` (`case.grad.NAME`), and eval-mode images from the initial running
statistics.
"""

import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional

FEATURES, HIDDEN, START, BATCH = 6, 5, 3, 4


class Residual(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        if width != out:
            self.shortcut = nn.Module()
            self.shortcut.conv = nn.Conv2d(width, out, 1, bias=False)
            self.shortcut.bn = nn.BatchNorm2d(out)

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "shortcut"):
            x = self.shortcut.bn(self.shortcut.conv(x))
        return functional.relu(y + x)


class Variant(nn.Module):
    """With residual blocks, from a vector or a map."""

    def __init__(self, channels, residual, from_map):
        super().__init__()
        if from_map:
            self.project = nn.Conv2d(FEATURES, HIDDEN, 1)
        else:
            self.fc1 = nn.Linear(FEATURES, HIDDEN)
            self.fc2 = nn.Linear(HIDDEN, HIDDEN * START * START)
        self.blocks = nn.ModuleList()
        width = HIDDEN
        for out in channels:
            if residual:
                block = Residual(width, out)
            else:
                block = nn.Module()
                block.conv = nn.Conv2d(width, out, 3, padding=1, bias=False)
                block.bn = nn.BatchNorm2d(out)
            self.blocks.append(block)
            width = out
        self.image = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        if hasattr(self, "project"):
            x = self.project(x)
        else:
            x = self.fc2(self.fc1(x)).view(-1, HIDDEN, START, START)
        for block in self.blocks:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x) if isinstance(block, Residual) else functional.relu(block.bn(block.conv(x)))
        return self.image(x)


class Decoder(nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        self.size = size
        self.fc1 = nn.Linear(FEATURES, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN * START * START)
        self.blocks = nn.ModuleList()
        width = HIDDEN
        for out in channels:
            block = nn.Module()
            block.conv = nn.Conv2d(width, out, 3, padding=1, bias=False)
            block.bn = nn.BatchNorm2d(out)
            self.blocks.append(block)
            width = out
        self.image = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, pooled):
        x = self.fc2(self.fc1(pooled)).view(-1, HIDDEN, START, START)
        for block in self.blocks:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = functional.relu(block.bn(block.conv(x)))
        x = self.image(x)
        if x.shape[-1] != self.size:
            x = functional.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return x


def run(model, size, shape):
    for name, tensor in model.state_dict().items():
        if name.endswith(("bn.weight", "bn1.weight", "bn2.weight")):
            tensor.uniform_(0.75, 1.25)
        elif name.endswith(("bn.bias", "bn1.bias", "bn2.bias", "running_mean")):
            tensor.uniform_(-0.25, 0.25)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    out = {f"init.{name}": t.clone() for name, t in model.state_dict().items() if "num_batches" not in name}
    # f32 values, so that both sides start from the same bits
    model = model.double()
    pooled = torch.rand(BATCH, *shape)
    target = torch.randn(BATCH, 3, size, size)
    out["pooled"], out["target"] = pooled.clone(), target
    pooled = pooled.double().requires_grad_()

    model.eval()
    out["eval.images"] = model(pooled).detach()
    model.train()
    images = model(pooled)
    loss = ((images - target.double()) ** 2).mean()
    loss.backward()
    out["train.images"], out["loss"] = images, loss
    for name, buffer in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            out[f"running.{name}"] = buffer
    for name, parameter in [("pooled", pooled), *model.named_parameters()]:
        out[f"grad.{name}"] = parameter.grad
    return {name: np.asarray(t.detach().float().numpy(), order="C") for name, t in out.items()}


def main(path):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    stored = {}
    for case, (channels, size) in {"exact": ([4, 3], 12), "resized": ([4], 13)}.items():
        arrays = run(Decoder(channels, size), size, (FEATURES,))
        stored |= {f"{case}.{name}": array for name, array in arrays.items()}
    cases = {"residual": ([5, 3], True, False), "map": ([4], False, True), "residual_map": ([4], True, True)}
    for case, (channels, residual, from_map) in cases.items():
        shape = (FEATURES, START, START) if from_map else (FEATURES,)
        size = START * 2 ** len(channels)
        arrays = run(Variant(channels, residual, from_map), size, shape)
        stored |= {f"{case}.{name}": array for name, array in arrays.items()}
    save_file(stored, path)


if __name__ == "__main__":
    main(sys.argv[1])
