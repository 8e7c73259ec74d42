"""The Python side of `cargo xtask parity`: timm's, torchvision's and transformers' outputs beside fgvr's.

    python benches/torch/parity.py --threads 2

It reads requests and answers in JSON, a line each, as benches/src/protocol.rs says:

- `parity NETWORK IMAGES FILE`: what fgvr wrote to FILE (benches/src/parity.rs) against the same network
  here, with the weights and images of formula.py. Errors are [max|a-b| / max|b|, mean|a-b| / mean|b|]:
  `torch`, ours against PyTorch's f32; `ours` and `theirs`, each side's f32 against PyTorch's f64.
- `preprocess SIZE CROP_PCT INTERPOLATION FILE PHOTO`: what fgvr wrote to FILE (benches/src/preprocess.rs)
  against timm's view of the same photograph's file, in grey levels.

The end of the input ends the program.
"""

import argparse
import copy
import gc
import json
import os
import sys

# Libraries that print must not print among the answers, and none of them needs the network.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ["HF_HUB_OFFLINE"] = "1"

import timm  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

import formula  # noqa: E402
from gradients import read  # noqa: E402


def say(**answer):
    print(json.dumps(answer), file=ANSWERS, flush=True)


def subject(network, images):
    """timm's name, the size the network is made for (None: its own), and (N, H, W)."""
    name, _, size = network.partition("@")
    return name, int(size) if size else None, tuple(map(int, images.split("x")))


def build(name, image_size):
    """timm's network without a classifier, filled by formula; a ViT takes images of any size."""
    options = {}
    if name.startswith("vit"):
        options = {"dynamic_img_size": True}
        if image_size:
            options["img_size"] = image_size
    return formula.fill(timm.create_model(name, num_classes=0, **options))


def split(model, features):
    """The feature map (N, C, h, w) and the pooled features (N, C) of what `forward_features` gives."""
    pooled = model.forward_head(features, pre_logits=True)
    if features.dim() == 4:
        return features, pooled
    # (N, T, C) -> (N, C, h, w); timm does not keep the grid, so it comes from the images
    tokens = features[:, model.num_prefix_tokens :]
    h, w = model.grid_of_images
    return tokens.transpose(1, 2).unflatten(2, (h, w)), pooled


def outputs(model, images, dtype):
    """What fgvr writes, by this model in this precision."""
    model = copy.deepcopy(model).to(dtype)
    images = images.to(dtype).clone().requires_grad_()
    if hasattr(model, "patch_embed"):
        patch = model.patch_embed.patch_size
        model.grid_of_images = tuple(side // p for side, p in zip(images.shape[2:], patch))
    found = {}
    model.eval()
    with torch.no_grad():
        found["map"], found["pooled"] = split(model, model.forward_features(images))
    model.train()
    found["train.map"], found["train.pooled"] = split(model, model.forward_features(images))
    loss = sum(
        (output * torch.from_numpy(formula.uniform(f"loss.{name}", output.numel())).view(output.shape).to(dtype)).sum()
        for name, output in (("map", found["train.map"]), ("pooled", found["train.pooled"]))
    )
    loss.backward()
    found["gradient"] = images.grad
    return {name: tensor.detach() for name, tensor in found.items()}


def errors(a, b):
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a.double(), b.double()
    off = (a - b).abs()
    found = [(off.max() / b.abs().max()).item(), (off.mean() / b.abs().mean()).item()]
    if not all(error == error for error in found):
        raise ValueError("a value is not a number")
    return found


def check_inputs(model, images, checksums):
    """That fgvr computed with the same weights and images."""
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    if len(state) + 1 != len(checksums):
        raise ValueError(f"timm has {len(state)} tensors, fgvr {len(checksums) - 1}")
    sides = [(name, state[name]) for name in sorted(state)] + [("images", images)]
    for (name, tensor), ours in zip(sides, checksums.tolist()):
        if formula.checksum(tensor.numpy()) != ours % 2**64:
            raise ValueError(f"{name}: the sides hold other values, or name or shape it otherwise")


def torchvision_pooled(name, state, images):
    model = getattr(torchvision.models, name)()
    model.fc = torch.nn.Identity()
    model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        return model.eval()(images)


def compare(network, images, path):
    """The errors of each output, by what it is compared with."""
    name, image_size, (n, h, w) = subject(network, images)
    ours = read(path)
    model = build(name, image_size)
    images = torch.from_numpy(formula.images("images", n, h, w))
    check_inputs(model, images, ours["checksums"])
    single, double = outputs(model, images, torch.float32), outputs(model, images, torch.float64)
    found = {}
    for output, reference in double.items():
        found[output] = {
            "torch": errors(ours[output], single[output]),
            "ours": errors(ours[output], reference),
            "theirs": errors(single[output], reference),
        }
    for output in ("map", "pooled"):
        found[f"frozen.{output}"] = {
            "torch": errors(ours[f"frozen.{output}"], single[output]),
            "ours": errors(ours[f"frozen.{output}"], double[output]),
            "theirs": errors(single[output], double[output]),
        }
    others = {}
    if hasattr(torchvision.models, name) and not name.startswith("vit"):
        others["torchvision"] = errors(ours["pooled"], torchvision_pooled(name, model.state_dict(), images))
    made_for = image_size or (model.patch_embed.img_size[0] if name.startswith("vit") else None)
    if name.startswith("vit") and made_for == h == w:
        from transformers_names import features

        map_, pooled = features(name, model, images)
        others["transformers"] = [max(pair) for pair in zip(errors(ours["map"], map_), errors(ours["pooled"], pooled))]
    return {"outputs": found, "others": others}


def answer(line):
    word, _, rest = line.strip().partition(" ")
    if word == "parity":
        network, images, path = rest.split(" ", 2)
        return say(parity=network, **compare(network, images, path))
    if word == "preprocess":
        from preprocessing import compare as preprocessing

        return say(**preprocessing(*rest.split(" ", 4)))
    raise ValueError(f"`{line.strip()}`: expected parity or preprocess and their arguments")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    import transformers

    say(
        hello="torch",
        version=torch.__version__,
        torchvision=torchvision.__version__,
        timm=timm.__version__,
        transformers=transformers.__version__,
        threads=torch.get_num_threads(),
    )
    for line in sys.stdin:
        try:
            answer(line)
        except Exception as error:  # an answer too, with its reason
            say(error=f"{type(error).__name__}: {error}")
        gc.collect()


if __name__ == "__main__":
    main()
