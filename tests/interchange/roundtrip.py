"""Weights between fgvr and timm, torchvision and transformers: what `cargo xtask interchange` runs.

    python tests/interchange/roundtrip.py make NETWORK DIR     timm's network with random weights, as timm saves it
    python tests/interchange/roundtrip.py photos DIR PHOTOS    photographs for the network that DIR describes
    python tests/interchange/roundtrip.py check DIR PHOTOS FEATURES [--transformers] [--native DIR]
    python tests/interchange/roundtrip.py adapted DIR PHOTOS FEATURES PLAIN [--native DIR]

`check` builds the network from DIR as other people's programs do, strictly, and compares its features of
PHOTOS with those in FEATURES, which fgvr wrote (`fgvr embed --out FEATURES`). It prints what it found as
JSON and fails above 1e-4 (max|a-b| / max|b|). `--transformers` has transformers' AutoModel build it from DIR
too (it refuses what timm 1.0.31 saves, whose model_args hold num_classes). `--native` names a folder that
transformers' own ViT or DINOv2 reads. DIR holds config.json in timm's form and model.safetensors.

`adapted` does the same with an export whose classifier layer is an adaptation (`fgvr adapt`): the plain forward pass of
timm, torchvision and transformers must give FEATURES, and timm with num_classes=0 the features PLAIN, without the
adaptation. The error is that of all features together, |a-b| / |b| in the Euclidean norm, at most 1e-4.

Needs the packages of benches/torch/requirements.txt; nothing is downloaded.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches/torch"))
import formula  # noqa: E402

MOST = 1e-4
CLASSES, PHOTOS = 2, 3


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def make(network, folder, image_size):
    """timm's network with seeded random weights in `folder`, written by timm itself."""
    torch.manual_seed(0)
    options = {"img_size": image_size} if network.startswith("vit") and image_size else {}
    model = timm.create_model(network, num_classes=0, **options)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            # As initialised, norms do nothing and biases are 0: what mixes them up would pass.
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    if image_size:
        model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, image_size, image_size)}
    timm.models.save_for_hf(model, folder, model_args=options or None, safe_serialization=True)


def photos(folder, out):
    """Photographs in folders by class, of the size that the network's preprocessing makes them first, so
    that no resizing can differ; the crop and the normalisation are left."""
    cfg = config_of(folder)["pretrained_cfg"]
    side = math.floor(cfg["input_size"][1] / cfg.get("crop_pct", 0.875))
    for label in range(CLASSES):
        (out / f"class{label}").mkdir(parents=True)
        values = formula.images(f"photos.{label}", PHOTOS, side, side)
        for at, image in enumerate(values.transpose(0, 2, 3, 1)):
            pixels = ((image + 1.5) * 85).clip(0, 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(out / f"class{label}" / f"{at}.png")


def from_timm(folder, outputs=0):
    """timm's model from the folder, strictly, and its own preprocessing."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    # What timm loaded is all there is, and it is strict: a file without one tensor must be refused.
    state = load_file(folder / "model.safetensors")
    model.load_state_dict(state, strict=True)
    cut = dict(state)
    cut.pop(next(name for name in cut if name.endswith("weight")))
    try:
        model.load_state_dict(cut, strict=True)
    except RuntimeError:
        pass
    else:
        raise ValueError("timm took weights of which one is missing")
    if model.num_classes != outputs:
        raise ValueError(f"expected num_classes {outputs}, found {model.num_classes}")
    data = timm.data.resolve_model_data_config(model)
    return model, timm.data.create_transform(**data, is_training=False)


def from_torchvision(folder, outputs=0):
    """torchvision's model, strictly; None where it has no such network."""
    name = config_of(folder)["architecture"]
    if name.startswith("vit") or not hasattr(torchvision.models, name):
        return None
    model = getattr(torchvision.models, name)(**({"num_classes": outputs} if outputs else {}))
    if not outputs:
        model.fc = torch.nn.Identity()
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model.eval()


def from_transformers(folder, classifier=False):
    """What AutoModel makes of the folder, or its relative with a classifier; every weight must have been found."""
    from transformers import AutoModel, AutoModelForImageClassification

    # A ViTModel has a layer over the class token by default, which no self-supervised trunk trains.
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    bare = {"add_pooling_layer": False} if kind == "vit" and not classifier else {}
    auto = AutoModelForImageClassification if classifier else AutoModel
    model, info = auto.from_pretrained(folder, output_loading_info=True, local_files_only=True, **bare)
    # num_batches_tracked counts batches and no features depend on it; a mask token hides patches in training.
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        left = [name for name in map(str, info[what]) if not name.endswith(("num_batches_tracked", "mask_token"))]
        if left:
            raise ValueError(f"transformers: {what}: {left}")
    return model.eval()


def error(ours, theirs):
    if ours.shape != theirs.shape:
        raise ValueError(f"fgvr's features are {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
    off = ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()).item()
    if off != off:
        raise ValueError("a feature is not a number")
    return off


def read_features(path, pictures):
    """fgvr's features in the order of `pictures`: the file says of which path each row is."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            features, names = torch.from_numpy(file["features"]), file["paths"].tolist()
    else:
        with safe_open(path, "pt") as file:
            features, names = file.get_tensor("features"), json.loads(file.metadata()["fgvr"])["paths"]
    row = {Path(name).parts[-2:]: at for at, name in enumerate(names)}
    if len(row) != len(pictures) or len(features) != len(pictures):
        raise ValueError(f"{path}: {len(features)} rows of {len(row)} paths, expected {len(pictures)}")
    return features[[row[picture.parts[-2:]] for picture in pictures]]


def check(folder, pictures, features, wrapped, native):
    paths = sorted(pictures.rglob("*.png"))
    ours = read_features(features, paths)
    model, transform = from_timm(folder)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    found = {}
    with torch.inference_mode():
        found["timm"] = error(ours, model(images))
        if (other := from_torchvision(folder)) is not None:
            found["torchvision"] = error(ours, other(images))
        if wrapped:
            pooled = from_transformers(folder)(pixel_values=images).pooler_output
            found["transformers"] = error(ours, pooled)
        if native:
            tokens = from_transformers(native)(pixel_values=images).last_hidden_state
            found["transformers, native"] = error(ours, tokens[:, 0])
    print(json.dumps(found))
    return all(off <= MOST for off in found.values())


def relative(ours, theirs):
    """The error of all features together in the Euclidean norm."""
    if ours.shape != theirs.shape:
        raise ValueError(f"fgvr's features are {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
    off = ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()
    if off != off:
        raise ValueError("a feature is not a number")
    return off


def adapted(folder, pictures, features, plain, native):
    paths = sorted(pictures.rglob("*.png"))
    ours, ours_plain = read_features(features, paths), read_features(plain, paths)
    config = config_of(folder)
    outputs, mark = ours.shape[1], config["fgvr"]["adaptation"]
    if (config["num_features"], mark["features"], len(config["label_names"])) != (outputs,) * 3:
        raise ValueError(f"the configuration is not that of an adaptation of {outputs} features")
    if relative(ours, ours_plain) < 0.1:
        raise ValueError("the adaptation changes nothing, so that nothing is shown here")
    model, transform = from_timm(folder, outputs)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    found = {}
    with torch.inference_mode():
        found["timm"] = relative(ours, model(images))
        bare = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        found["timm, num_classes=0"] = relative(ours_plain, bare(images))
        if (other := from_torchvision(folder, outputs)) is not None:
            found["torchvision"] = relative(ours, other(images))
        found["transformers, timm's network"] = relative(
            ours, from_transformers(folder, classifier=True)(pixel_values=images).logits
        )
        if native:
            theirs = from_transformers(native, classifier=True)
            found[f"transformers, {type(theirs).__name__}"] = relative(ours, theirs(pixel_values=images).logits)
    print(json.dumps(found))
    return all(off <= MOST for off in found.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("make")
    one.add_argument("network")
    one.add_argument("folder", type=Path)
    one.add_argument("--image-size", type=int)
    one = commands.add_parser("photos")
    one.add_argument("folder", type=Path)
    one.add_argument("out", type=Path)
    one = commands.add_parser("check")
    one.add_argument("folder", type=Path)
    one.add_argument("photos", type=Path)
    one.add_argument("features", type=Path)
    one.add_argument("--transformers", action="store_true")
    one.add_argument("--native", type=Path)
    one = commands.add_parser("adapted")
    one.add_argument("folder", type=Path)
    one.add_argument("photos", type=Path)
    one.add_argument("features", type=Path)
    one.add_argument("plain", type=Path)
    one.add_argument("--native", type=Path)
    args = parser.parse_args()
    if args.command == "make":
        make(args.network, args.folder, args.image_size)
    elif args.command == "photos":
        photos(args.folder, args.out)
    elif args.command == "adapted":
        if not adapted(args.folder, args.photos, args.features, args.plain, args.native):
            sys.exit(f"features differ by more than {MOST}")
    elif not check(args.folder, args.photos, args.features, args.transformers, args.native):
        sys.exit(f"features differ by more than {MOST}")


if __name__ == "__main__":
    main()
