"""Golden tensors of narrow ResNets, for crates/fgvr-encoder/tests/golden.rs.

    python tests/golden/resnet.py tests/golden/resnet.safetensors

Made with PyTorch 2.15 and torchvision 0.29.2 on a CPU. The networks are torchvision's own classes
with narrower stages (and, for the small stem, another first convolution and no max-pool).
Parameters, images and the weights of the loss are not stored: both sides compute them from
`values(name, shape)`, a hash of the name and the index. Everything runs in f64 and is stored as
f32; `f32_deviation.GROUP` holds how far PyTorch's own f32 run is off at worst, as a share of each
tensor's largest value. `draw` is the first D for which the images `images.D` bring no ReLU and no
max-pool window within seven rounding errors of turning over, since a gradient jumps there.

Stored per case: train-mode `pooled` and `map` (batch statistics), running statistics after that one
forward, gradients of sum(map * a) + sum(pooled * b) at every parameter and at the images,
eval-mode `pooled` and `map` with the initial running statistics, and the eval-mode stage maps'
means over places. Gradients of more than 600 values are stored as their first 64 values, their
norm, and four sums with signs from a hash, under `name#first`, `name#norm`, `name#signed`.

Beside it, `resnet_names.txt` lists name and shape of each entry of torchvision's ResNet-18, 34, 50
and 101 and of its wide ResNet-50, without the classifier.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from shared.networks import compact, f32_deviations, save, uniform, write_names
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

# Rounding errors between the nearest decision and zero.
MARGIN = 7


def values(name, shape):
    """What a tensor of this name holds, as f32."""
    u = uniform(name, math.prod(shape)).reshape(shape)
    if name.endswith("running_var"):
        u = 1 + 0.5 * u
    elif name.endswith("running_mean"):
        u = 0.25 * u
    elif name.endswith("bn3.weight"):
        # A quarter: forty batch norms in a row otherwise magnify rounding a hundredfold.
        u = 0.25 + 0.0625 * u
    elif len(shape) == 1:
        u = 1 + 0.25 * u if name.endswith("weight") else 0.25 * u
    elif name.endswith("conv1.weight") or "conv" in name or "downsample" in name:
        u = u * math.sqrt(6 / math.prod(shape[1:]))
    return torch.from_numpy(u.astype(np.float32))


class NarrowResNet(ResNet):
    """torchvision's ResNet with `width` base channels instead of 64."""

    def __init__(self, block, layers, width, small_stem):
        self.width = width
        super().__init__(block, layers)
        self.conv1 = (
            torch.nn.Conv2d(3, width, 3, 2, 1, bias=False)
            if small_stem
            else torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
        )
        self.bn1 = torch.nn.BatchNorm2d(width)
        if small_stem:
            self.maxpool = torch.nn.Identity()
        self.fc = torch.nn.Identity()

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:
            self.inplanes = self.width
        return super()._make_layer(block, planes * self.width // 64, blocks, stride, dilate)

    def stages(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


def decisions(model):
    """Collects the input of each ReLU, and the lead of the largest over the second in each window of
    the max-pool: what a rounding error could turn over, which no tolerance covers."""
    seen = []

    def pool(_, args):
        x = args[0]
        n, c = x.shape[:2]
        windows = torch.nn.functional.unfold(x, 3, padding=1, stride=2).view(n, c, 9, -1)
        first, second = windows.topk(2, dim=2).values.unbind(2)
        # Among zeros the ReLU's gradient is zero anyway.
        seen.append(torch.where(first > 0, first - second, first.max()).detach())

    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
        elif isinstance(module, torch.nn.MaxPool2d):
            module.register_forward_pre_hook(pool)
    return seen


def margin(exact, single):
    """The smallest distance of a decision from turning over, in rounding errors of its layer."""
    return min(float(a.abs().min() / (a - b.double()).abs().max()) for a, b in zip(exact, single))


def run(block, layers, width, small_stem, images_name, image_shape, dtype):
    model = NarrowResNet(block, layers, width, small_stem)
    state = {
        name: tensor if name.endswith("num_batches_tracked") else values(name, tensor.shape)
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    model = model.to(dtype)
    images = values(images_name, image_shape).to(dtype).requires_grad_()
    out = {}

    model.eval()
    with torch.no_grad():
        maps = model.stages(images)
        for i, stage in enumerate(maps):
            out[f"eval.stage{i + 1}"] = stage.mean((2, 3))
        out["eval.map"] = maps[-1]
        out["eval.pooled"] = model(images)

    model.train()
    seen = decisions(model)
    map_ = model.stages(images)[-1]
    pooled = map_.mean((2, 3))
    out["train.map"], out["train.pooled"] = map_, pooled
    loss = (map_ * values("loss.map", map_.shape).to(dtype)).sum()
    loss = loss + (pooled * values("loss.pooled", pooled.shape).to(dtype)).sum()
    loss.backward()
    for name, buffer in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            out[f"running.{name}"] = buffer
    for name, parameter in [("images", images), *model.named_parameters()]:
        out[f"grad.{name}"] = parameter.grad
    return {name: tensor.detach().double().numpy() for name, tensor in out.items()}, seen


def main(path):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    cases = {
        "resnet10_small": (BasicBlock, [1, 1, 1, 1], 4, True, (3, 3, 48, 32)),
        "resnet50_imagenet": (Bottleneck, [3, 4, 6, 3], 4, False, (3, 3, 64, 64)),
    }
    stored = {}
    for case, (block, layers, width, small, shape) in cases.items():
        for draw in range(200):
            args = (block, layers, width, small, f"images.{draw}", shape)
            (exact, exact_seen), (single, single_seen) = run(*args, torch.float64), run(*args, torch.float32)
            if margin(exact_seen, single_seen) > MARGIN:
                break
        else:
            sys.exit(f"{case}: no images with a margin of {MARGIN} rounding errors")
        print(case, "images", draw)
        stored[f"{case}.draw"] = np.array([draw])
        stored |= f32_deviations(case, exact, single, ("eval", "train", "running", "grad"))
        stored |= {f"{case}.{name}": array for name, array in compact(exact, 600, "grad.").items()}
    save(stored, path)
    names = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
    models = ((name, getattr(torchvision.models, name)()) for name in names)
    write_names(Path(path).with_name("resnet_names.txt"), models)


if __name__ == "__main__":
    main(sys.argv[1])
