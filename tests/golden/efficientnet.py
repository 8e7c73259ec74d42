"""Golden tensors of narrow EfficientNet-Lites, for crates/fgvr-encoder/tests/efficientnet.rs.

    python tests/golden/efficientnet.py tests/golden/efficientnet.safetensors

Made with PyTorch 2.15 and timm 1.0.31 on a CPU. The networks are timm's own with a fifth of the channels and half of
the blocks, padded as TensorFlow does (`same`) and as PyTorch does (`symmetric`). Parameters, images and the weights of
the loss are not stored: both sides compute them from `values(name, shape)`, a hash of the name and the index. Norms
weigh 2.5, so that ReLU6 cuts off at both ends. Everything runs in f64 and is stored as f32; `f32_deviation.GROUP`
holds how far PyTorch's own f32 run is off at worst, as a share of each tensor's largest value. `draw` is the first D for
which the images `images.D` bring no ReLU6 within 1.5 rounding errors of PyTorch's f32 of turning over, since a gradient jumps there.

Stored per case: train-mode `pooled` and `map` (batch statistics), running statistics after that one forward, gradients
of sum(map * a) + sum(pooled * b) at every parameter and at the images, and eval-mode `pooled`, `map` and gradients
of convolutions, by the initial running statistics, under `eval.` and `evalgrad.`, and the means over places of the eval-mode stages. What has
more than 300 values is stored as its first 64, their norm, and four sums with signs from a hash, under `name#first`,
`name#norm`, `name#signed`.

Beside it, `efficientnet_names.txt` lists name and shape of each entry of timm's networks of the whole widths, without
the classifier.
"""

import math
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from resnet import margin
from shared.networks import compact, f32_deviations, save, uniform, write_names
from timm.models.efficientnet import _gen_efficientnet_lite

# Rounding errors between the nearest decision and an end of ReLU6.
MARGIN = 1.5
NAMES = [*(f"tf_efficientnet_lite{i}" for i in range(5)), "efficientnet_lite0"]


def values(name, shape):
    """What a tensor of this name holds, as f32."""
    u = uniform(name, math.prod(shape)).reshape(shape)
    if name.endswith("running_var"):
        u = 1 + 0.5 * u
    elif name.endswith("running_mean"):
        u = 0.25 * u
    elif name.endswith(("bn3.weight", "blocks.0.0.bn2.weight")):
        u = 0.5 + 0.125 * u
    elif len(shape) == 1:
        u = 2.5 + 0.5 * u if name.endswith("weight") else 0.5 * u
    elif len(shape) == 4 and "conv" in name:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    return torch.from_numpy(u.astype(np.float32))


def network(same, dtype):
    padding = {"pad_type": "same", "bn_eps": 1e-3} if same else {}
    model = _gen_efficientnet_lite(
        "efficientnet_lite0", channel_multiplier=0.2, depth_multiplier=0.5, num_classes=0, **padding
    )
    state = {
        name: tensor if name.endswith("num_batches_tracked") else values(name, tensor.shape)
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model.to(dtype)


def decisions(model):
    """Collects how far the input of each ReLU6 is from its two ends."""
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU6):
            module.register_forward_pre_hook(
                lambda _, args: seen.append(torch.where(args[0] < 3, args[0], 6 - args[0]).detach().clone())
            )
    return seen


def backward(model, images, group, out):
    """A pass, and back: outputs under `group`, gradients under a name of their own."""
    images = images.clone().requires_grad_()
    map_ = model.forward_features(images)
    pooled = model.forward_head(map_, pre_logits=True)
    out[f"{group}.map"], out[f"{group}.pooled"] = map_, pooled
    loss = (map_ * values("loss.map", map_.shape).to(map_.dtype)).sum()
    loss = loss + (pooled * values("loss.pooled", pooled.shape).to(map_.dtype)).sum()
    model.zero_grad()
    loss.backward()
    gradients = "grad" if group == "train" else "evalgrad"
    for name, parameter in [("images", images), *model.named_parameters()]:
        # What is added to all places of a channel goes in the next norm by batch statistics.
        taken = "bn" not in name if group == "eval" else not name.endswith(("bn3.bias", "blocks.0.0.bn2.bias"))
        if taken:
            out[f"{gradients}.{name}"] = parameter.grad.clone()


def run(same, images_name, image_shape, dtype):
    model = network(same, dtype)
    images = values(images_name, image_shape).to(dtype)
    seen, out = decisions(model), {}
    model.eval()
    with torch.no_grad():
        x = model.bn1(model.conv_stem(images))
        for i, stage in enumerate(model.blocks):
            x = stage(x)
            out[f"eval.blocks{i}"] = x.mean((2, 3))
    seen.clear()
    backward(model, images, "eval", out)
    model.train()
    backward(model, images, "train", out)
    for name, buffer in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            out[f"running.{name}"] = buffer
    return {name: tensor.detach().double().numpy() for name, tensor in out.items()}, seen


def main(path):
    torch.set_num_threads(1)
    stored = {}
    for case, same, shape in (("same", True, (2, 3, 33, 40)), ("symmetric", False, (2, 3, 40, 33))):
        for draw in range(1000):
            args = (same, f"images.{draw}", shape)
            (exact, exact_seen), (single, single_seen) = run(*args, torch.float64), run(*args, torch.float32)
            if margin(exact_seen, single_seen) > MARGIN:
                break
        else:
            sys.exit(f"{case}: no images with a margin of {MARGIN} rounding errors")
        cut = np.mean([float((x < 0).double().mean()) for x in exact_seen])
        print(case, "images", draw, f"cut off {cut:.2f}")
        stored[f"{case}.draw"] = np.array([draw])
        stored |= f32_deviations(case, exact, single, ("eval", "evalgrad", "train", "running", "grad"))
        stored |= {f"{case}.{name}": array for name, array in compact(exact, 300).items()}
    save(stored, path)
    models = ((name, timm.create_model(name, num_classes=0)) for name in NAMES)
    write_names(Path(path).with_name("efficientnet_names.txt"), models)


if __name__ == "__main__":
    main(sys.argv[1])
