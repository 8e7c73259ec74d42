"""Golden tensors of small vision transformers, for crates/fgvr-encoder/tests/vit.rs.

    python tests/golden/vit.py tests/golden/vit.safetensors

Made with PyTorch 2.15 and timm 1.0.31 on a CPU. The networks are timm's own VisionTransformer with
few channels. Parameters, images and the weights of the loss are not stored: both sides compute them
from `values(name, shape)`, a hash of the name and the index, as for resnet.py. Everything runs in
f64 and is stored as f32; `f32_deviation.GROUP` holds how far PyTorch's own f32 run is off at worst,
as a share of each tensor's largest value.

Stored per case: `eval.map` (patches' tokens after the norm), `eval.pooled` (class token), the tokens
after each block, the attention of the last block where it is asked for; gradients of sum(map * a) +
sum(pooled * b) at the images (as `#first`, `#norm` and `#signed`, see resnet.py), at vectors and
tokens in full, and of larger parameters likewise.

`resample.*` are position embeddings on other grids, by timm's `resample_abs_pos_embed`.

Beside it, `vit_names.txt` lists name and shape of each parameter of the architectures that
fgvr-encoder has, without the classifier.
"""

import math
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from shared.networks import compact, f32_deviations, save, uniform, write_names
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

NAMES = [
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch14_reg4_dinov2",
]


def values(name, shape):
    """What a tensor of this name holds, as f32."""
    u = uniform(name, math.prod(shape)).reshape(shape)
    if name.endswith("gamma"):
        u = 0.5 + 0.25 * u
    elif len(shape) == 1:
        u = 1 + 0.25 * u if name.endswith("weight") else 0.25 * u
    elif name.endswith("weight"):
        u = u * math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("pos_embed") or name.endswith("_token"):
        u = 0.5 * u
    return torch.from_numpy(u.astype(np.float32))


def tokens_of(model, images):
    """(map, pooled) and what else is stored, of timm's own forward pass."""
    out = {}
    hooks = [
        block.register_forward_hook(lambda _, __, y, i=i: out.__setitem__(f"eval.blocks.{i}", y))
        for i, block in enumerate(model.blocks)
    ]
    shares = []
    last = model.blocks[-1].attn
    last.fused_attn = False
    hooks.append(last.attn_drop.register_forward_hook(lambda _, __, y: shares.append(y)))
    tokens = model.forward_features(images)
    for hook in hooks:
        hook.remove()
    out[f"eval.attention.{len(model.blocks) - 1}"] = shares[0]
    first = model.num_prefix_tokens
    h, w = (side // model.patch_embed.patch_size[0] for side in images.shape[2:])
    map_ = tokens[:, first:].transpose(1, 2).reshape(len(images), -1, h, w)
    pooled = model.forward_head(tokens, pre_logits=True)
    return map_, pooled, out


def run(config, image_shape, dtype):
    model = VisionTransformer(num_classes=0, dynamic_img_size=True, **config)
    model.load_state_dict({name: values(name, tensor.shape) for name, tensor in model.state_dict().items()})
    model = model.to(dtype).eval()
    images = values("images", image_shape).to(dtype).requires_grad_()
    map_, pooled, out = tokens_of(model, images)
    out["eval.map"], out["eval.pooled"] = map_, pooled
    loss = (map_ * values("loss.map", map_.shape).to(dtype)).sum()
    loss = loss + (pooled * values("loss.pooled", pooled.shape).to(dtype)).sum()
    loss.backward()
    for name, parameter in [("images", images), *model.named_parameters()]:
        out[f"grad.{name}"] = parameter.grad
    return {name: tensor.detach().double().numpy() for name, tensor in out.items()}


def main(path):
    torch.set_num_threads(1)
    plain = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3)
    dinov2 = dict(
        img_size=42, patch_size=14, embed_dim=20, depth=2, num_heads=2, init_values=1e-5, reg_tokens=2, no_embed_class=True
    )
    cases = {
        "plain": (plain, (2, 3, 32, 32)),
        # Another size than the network's, and not square: the position embedding is resized.
        "resized": (plain, (2, 3, 24, 48)),
        "registers": (dinov2, (2, 3, 42, 42)),
        "registers_resized": (dinov2, (1, 3, 56, 28)),
    }
    stored = {}
    for case, (config, shape) in cases.items():
        # timm resizes the position embedding in f32 whatever it is given.
        exact, single = run(config, shape, torch.float64), run(config, shape, torch.float32)
        stored |= f32_deviations(case, exact, single, ("eval", "grad"))
        stored |= {f"{case}.{name}": array for name, array in compact(exact, 600, "grad.").items()}

    for prefix, side, to in [(1, 4, (7, 5)), (0, 9, (4, 6)), (5, 6, (6, 6)), (1, 1, (3, 2)), (2, 37, (16, 16))]:
        table = values("resample", (1, prefix + side * side, 3))
        resampled = resample_abs_pos_embed(table, list(to), num_prefix_tokens=prefix)
        stored[f"resample.{prefix}.{side}.{to[0]}.{to[1]}"] = resampled.double().numpy()
    save(stored, path)
    models = ((name, timm.create_model(name, num_classes=0)) for name in NAMES)
    write_names(Path(path).with_name("vit_names.txt"), models)


if __name__ == "__main__":
    main(sys.argv[1])
