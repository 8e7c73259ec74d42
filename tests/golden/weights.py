"""Weight files as the programs of the field write them, for crates/fgvr-encoder/tests/weights_layouts.rs.

    python tests/golden/weights.py tests/golden/weights

Made with torch 2.15.0, torchvision 0.29.0, timm 1.0.31, transformers 5.23.0 and safetensors; the
module trees of MoCo v2, MoCo v3, DINO, SimSiam, lightly and solo-learn are rebuilt here around
torchvision's and timm's networks, as far as their names go.

One residual network of ten layers with a base width of 1 and one vision transformer of width 4 have
values by formula; every file holds them under another program's names. `resnet.safetensors`,
`vit.safetensors`, `dinov2.safetensors` and `dinov2_reg.safetensors` are the ones to compare with:
timm's names and nothing else.
"""

import argparse
import copy
import json
import os
import re
import sys
import tempfile
import zipfile
import zlib

import numpy as np
import torch
import torchvision
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)
WIDTH, HEADS, PATCH, IMAGE = 4, 2, 2, 6


def value(name, shape):
    """Values in [-0.5, 0.5) that depend on name and place alone and are exact in f16."""
    count = 1
    for size in shape:
        count *= size
    key = zlib.crc32(name.encode())
    values = [((key + 7919 * i) % 1024 - 512) / 1024 for i in range(count)]
    tensor = torch.tensor(values, dtype=torch.float32).reshape(shape)
    return tensor.abs() + 0.5 if name.endswith("running_var") else tensor


def fill(model):
    state = {
        name: value(name, tensor.shape) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


class Narrow(ResNet):
    """torchvision's ResNet of ten layers with a base width of 1 instead of 64."""

    def __init__(self, classes=3):
        super().__init__(BasicBlock, [1, 1, 1, 1])
        self.conv1 = nn.Conv2d(3, 1, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(1)
        self.fc = nn.Linear(8, classes)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:
            self.inplanes = 1
        return super()._make_layer(block, planes // 64, blocks, stride, dilate)


def vit(depth, **options):
    return VisionTransformer(
        img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=depth, num_heads=HEADS, mlp_ratio=2, num_classes=3, **options
    )


resnet = fill(Narrow())
trunk = {k: v for k, v in resnet.state_dict().items() if not k.startswith("fc.")}
plain = fill(vit(1))
dino2 = fill(vit(2, init_values=1.0))
dino2_reg = fill(vit(2, init_values=1.0, reg_tokens=2, no_embed_class=True))


def headless(state):
    return {k: v for k, v in state.items() if not k.startswith("head.") and not k.endswith("num_batches_tracked")}


def under(prefix, state):
    return {prefix + k: v for k, v in state.items()}


def safe(name, state, metadata=None):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in state.items()}, path, metadata)


def pth(name, value):
    torch.save(value, os.path.join(OUT, name))


def text(name, value):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file, indent=1)


# What to compare with.
safe("resnet.safetensors", headless(trunk))
for name, model in (("vit", plain), ("dinov2", dino2), ("dinov2_reg", dino2_reg)):
    safe(f"{name}.safetensors", headless(model.state_dict()))

# torchvision: a state dict by torch.save, with heads and counters.
pth("torchvision_resnet.pth", resnet.state_dict())

# torchvision's vision transformer.
tv = torchvision.models.VisionTransformer(IMAGE, PATCH, 1, HEADS, WIDTH, 2 * WIDTH, num_classes=3)
block = {
    "ln_1": "norm1", "self_attention.out_proj": "attn.proj", "ln_2": "norm2", "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"
}
state = plain.state_dict()
mapped = {
    "class_token": state["cls_token"], "encoder.pos_embedding": state["pos_embed"],
    "conv_proj.weight": state["patch_embed.proj.weight"], "conv_proj.bias": state["patch_embed.proj.bias"],
    "encoder.ln.weight": state["norm.weight"], "encoder.ln.bias": state["norm.bias"],
}
for i in range(1):
    layer = f"encoder.layers.encoder_layer_{i}."
    for leaf in ("weight", "bias"):
        mapped[layer + f"self_attention.in_proj_{leaf}"] = state[f"blocks.{i}.attn.qkv.{leaf}"]
        for theirs, ours in block.items():
            mapped[f"{layer}{theirs}.{leaf}"] = state[f"blocks.{i}.{ours}.{leaf}"]
tv.load_state_dict(mapped, strict=False)
safe("torchvision_vit.safetensors", tv.state_dict())

# timm: a directory as its push_to_hub writes it.
safe("timm_vit/model.safetensors", plain.state_dict())
text(
    "timm_vit/config.json",
    {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 3,
        "num_features": WIDTH,
        "pretrained_cfg": {
            "tag": "augreg_in21k_ft_in1k", "input_size": [3, 224, 224], "fixed_input_size": True,
            "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 3,
        },
    },
)


def transformers_names(state, norms, mlp):
    """timm's names to those that transformers' files have."""
    mapped = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    if "reg_token" in state:
        mapped["embeddings.register_tokens"] = state["reg_token"]
    for i in range(len({k.split(".")[1] for k in state if k.startswith("blocks.")})):
        layer, ours = f"encoder.layer.{i}.", f"blocks.{i}."
        for leaf in ("weight", "bias"):
            q, k, v = state[ours + f"attn.qkv.{leaf}"].chunk(3)
            for name, part in (("query", q), ("key", k), ("value", v)):
                mapped[f"{layer}attention.attention.{name}.{leaf}"] = part
            mapped[f"{layer}attention.output.dense.{leaf}"] = state[ours + f"attn.proj.{leaf}"]
            for n in (1, 2):
                mapped[f"{layer}{norms[n - 1]}.{leaf}"] = state[ours + f"norm{n}.{leaf}"]
                mapped[f"{layer}{mlp[n - 1]}.{leaf}"] = state[ours + f"mlp.fc{n}.{leaf}"]
        for n in (1, 2):
            if ours + f"ls{n}.gamma" in state:
                mapped[f"{layer}layer_scale{n}.lambda1"] = state[ours + f"ls{n}.gamma"]
    return mapped


def by_transformers(folder, kind, mapped, prefix=""):
    """Builds `kind` from `mapped`, strictly for its trunk, and lets transformers write it."""
    scratch = tempfile.mkdtemp()
    model = kind(kind.config_class(**CONFIGS[kind.config_class]))
    model.save_pretrained(scratch)  # its names in files, which are not those in memory
    with safe_open(os.path.join(scratch, "model.safetensors"), "pt") as file:
        template = {name: file.get_tensor(name) for name in file.keys()}
    for name, tensor in mapped.items():
        assert template[prefix + name].shape == tensor.shape, name
        template[prefix + name] = tensor.contiguous()
    save_file(template, os.path.join(scratch, "model.safetensors"), {"format": "pt"})
    model, report = kind.from_pretrained(scratch, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    path = os.path.join(OUT, folder)
    model.save_pretrained(path)
    for name in os.listdir(path):
        if name not in ("model.safetensors", "config.json"):
            os.remove(os.path.join(path, name))
    return model


VIT = dict(
    hidden_size=WIDTH, num_attention_heads=HEADS, image_size=IMAGE, patch_size=PATCH, num_labels=3
)
CONFIGS = {
    transformers.ViTConfig: dict(VIT, num_hidden_layers=1, intermediate_size=2 * WIDTH),
    transformers.Dinov2Config: dict(VIT, num_hidden_layers=2, mlp_ratio=2),
    transformers.Dinov2WithRegistersConfig: dict(VIT, num_hidden_layers=2, mlp_ratio=2, num_register_tokens=2),
    transformers.ResNetConfig: dict(
        embedding_size=1, hidden_sizes=[1, 2, 4, 8], depths=[1, 1, 1, 1], layer_type="basic", num_labels=3
    ),
}
old = ("layernorm_before", "layernorm_after"), ("intermediate.dense", "output.dense")
new = ("norm1", "norm2"), ("mlp.fc1", "mlp.fc2")
model = by_transformers(
    "transformers_vit", transformers.ViTForImageClassification, transformers_names(plain.state_dict(), *old), "vit."
)
# The names that the same module has in memory since version 5.
safe("transformers_vit_state.safetensors", model.state_dict())
text(
    "transformers_vit/preprocessor_config.json",
    {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2,
        "rescale_factor": 1 / 255, "size": {"height": 224, "width": 224},
    },
)
by_transformers("transformers_dinov2", transformers.Dinov2Model, transformers_names(dino2.state_dict(), *new))
# With registers: transformers and Facebook keep a position for the class token, timm adds it to the token.
state = dict(dino2_reg.state_dict())
position = value("position of the class token", (1, 1, WIDTH)) / 4
state["cls_token"] = state["cls_token"] - position
state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
by_transformers(
    "transformers_dinov2_reg", transformers.Dinov2WithRegistersModel, transformers_names(state, *new)
)
resnet_names = {}
for name, tensor in headless(trunk).items():
    stem, stage = re.match(r"(conv1|bn1)\.(.*)", name), re.match(r"layer(\d)\.(\d)\.(.*)", name)
    if stem:
        part = {"conv1": "convolution", "bn1": "normalization"}[stem[1]]
        resnet_names[f"embedder.embedder.{part}.{stem[2]}"] = tensor
    else:
        rest = re.sub(r"downsample\.0", "shortcut.convolution", stage[3])
        rest = re.sub(r"downsample\.1", "shortcut.normalization", rest)
        rest = re.sub(r"conv(\d)", lambda m: f"layer.{int(m[1]) - 1}.convolution", rest)
        rest = re.sub(r"bn(\d)", lambda m: f"layer.{int(m[1]) - 1}.normalization", rest)
        resnet_names[f"encoder.stages.{int(stage[1]) - 1}.layers.{stage[2]}.{rest}"] = tensor
by_transformers("transformers_resnet", transformers.ResNetForImageClassification, resnet_names, "resnet.")

# Facebook's DINOv2: `register_tokens`, `mask_token`, a position for the class token, blocks in chunks.
facebook = {
    "backbone." + re.sub(r"blocks\.(\d)", r"blocks.0.\1", k).replace("reg_token", "register_tokens"): v
    for k, v in headless(state).items()
}
facebook["backbone.mask_token"] = torch.zeros(1, WIDTH)
pth("facebook_dinov2_reg.pth", {"model": facebook, "iteration": 7})


class Copies(nn.Module):
    """An encoder under each of these names."""

    def __init__(self, **encoders):
        super().__init__()
        for name, encoder in encoders.items():
            setattr(self, name, encoder)


def other(model):
    """The same network with other values."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return model


# MoCo v2: `main_moco.py` saves DistributedDataParallel(MoCo(...)).state_dict() beside the optimiser's.
query = copy.deepcopy(resnet)
query.fc = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), query.fc)
moco = Copies(encoder_q=query)
moco.register_buffer("queue", torch.zeros(3, 4))
moco.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
optimizer = torch.optim.SGD(moco.parameters(), 0.03, momentum=0.9)
pth(
    "moco_v2.pth.tar",
    {
        "epoch": 200, "arch": "resnet50", "best_acc1": np.float64(0.5), "args": argparse.Namespace(lr=0.03, data="x"),
        "state_dict": under("module.", {k: v.half() if v.is_floating_point() else v for k, v in moco.state_dict().items()}),
        "optimizer": optimizer.state_dict(),
    },
)
# Zipped again with compression, which torch.load takes as well.
path = os.path.join(OUT, "moco_v2.pth.tar")
with zipfile.ZipFile(path) as stored, zipfile.ZipFile(path + ".zip", "w", zipfile.ZIP_DEFLATED) as deflated:
    for name in stored.namelist():
        deflated.writestr(zipfile.ZipInfo(name), stored.read(name), zipfile.ZIP_DEFLATED, 9)
os.replace(path + ".zip", path)
torch.load(path, weights_only=False)

# MoCo v3 on a vision transformer, and DINO with a student and a teacher.
safe(
    "moco_v3.safetensors",
    under("module.", headless(Copies(base_encoder=plain, momentum_encoder=other(plain)).state_dict())),
)
head = {"head.mlp.0.weight": torch.zeros(2, WIDTH), "head.last_layer.weight_g": torch.ones(2, 1)}
pth(
    "dino.pth",
    {
        "student": {**under("module.backbone.", headless(other(plain).state_dict())), **under("module.", head)},
        "teacher": {**under("backbone.", headless(plain.state_dict())), **head},
        "args": argparse.Namespace(arch="vit_small"),
    },
)

# lightly: the backbone is Sequential(*list(resnet.children())[:-1]) and the head stands beside it.
sequential = Copies(backbone=nn.Sequential(*list(resnet.children())[:-1]), projection_head=nn.Linear(8, 4))
safe("lightly.safetensors", sequential.state_dict())

# transformers cuts a model into shards when told to; here one in safetensors and one by torch.save.
model.save_pretrained(os.path.join(OUT, "sharded"), max_shard_size="1KB")
for name in os.listdir(os.path.join(OUT, "sharded")):
    if name == "config.json":
        os.remove(os.path.join(OUT, "sharded", name))
state = headless(plain.state_dict())
first, second = list(state.items())[:12], list(state.items())[12:]
os.makedirs(os.path.join(OUT, "sharded_bin"), exist_ok=True)
for i, part in enumerate((first, second), 1):
    pth(f"sharded_bin/pytorch_model-0000{i}-of-00002.bin", dict(part))
text(
    "sharded_bin/pytorch_model.bin.index.json",
    {
        "metadata": {"total_size": sum(v.nbytes for v in state.values())},
        "weight_map": {
            name: f"pytorch_model-0000{i}-of-00002.bin" for i, part in enumerate((first, second), 1) for name, _ in part
        },
    },
)

# torch.save keeps views of one storage, strides and offsets; here trunk weights that are such views.
views = {}
for name, tensor in headless(plain.state_dict()).items():
    if tensor.dim() == 2:
        views[name] = tensor.t().contiguous().t()
    elif tensor.dim() == 1:
        views[name] = torch.stack([tensor, tensor + 1], dim=1)[:, 0]
    else:
        views[name] = torch.cat([torch.zeros(5), tensor.flatten()])[5:].view(tensor.shape)
pth("views.pth", {"model": {k: nn.Parameter(v) for k, v in views.items()}})

# What torch.save wrote before version 1.6.
torch.save({"conv1.weight": torch.zeros(2)}, os.path.join(OUT, "legacy.pth"), _use_new_zipfile_serialization=False)
