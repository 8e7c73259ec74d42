"""timm's ViT weights in transformers' own ViT and DINOv2, and what these make of images."""

import re

import torch
import transformers

# timm's name of a part of a block, and transformers'; the parts of `attn.qkv` are split before.
BLOCK = {
    "attn.proj": "attention.o_proj",
    "attn.q": "attention.q_proj",
    "attn.k": "attention.k_proj",
    "attn.v": "attention.v_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
VIT = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
DINOV2 = {"norm1": "norm1", "norm2": "norm2", "ls1": "layer_scale1", "ls2": "layer_scale2"}
OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}


def renamed(state, dinov2):
    """The state under transformers' names. DINOv2 here adds a position to the class token too: where timm
    adds none (with registers), it is zero, and the same."""
    blocks = BLOCK | (DINOV2 if dinov2 else VIT)
    prefix = "encoder.layer" if dinov2 else "layers"
    found = {}
    for name, value in state.items():
        if name in OUTSIDE:
            found[OUTSIDE[name]] = value
            continue
        index, part, last = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(\w+)", name).groups()
        if part == "attn.qkv":
            for which, rows in zip("qkv", value.chunk(3)):
                found[f"{prefix}.{index}.{blocks[f'attn.{which}']}.{last}"] = rows
        else:
            found[f"{prefix}.{index}.{blocks[part]}.{'lambda1' if last == 'gamma' else last}"] = value
    if dinov2:
        positions = found["embeddings.position_embeddings"]
        if "reg_token" in state:
            found["embeddings.position_embeddings"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], 1)
        found["embeddings.mask_token"] = torch.zeros(1, positions.shape[2])
    return found


def native(name, model):
    """transformers' model with the weights of timm's `model`."""
    block = model.blocks[0]
    shape = {
        "hidden_size": model.embed_dim,
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": model.patch_embed.img_size[0],
        "patch_size": model.patch_embed.patch_size[0],
        "layer_norm_eps": 1e-6,
    }
    dinov2 = "dinov2" in name
    if not dinov2:
        config = transformers.ViTConfig(intermediate_size=block.mlp.fc1.out_features, **shape)
        other = transformers.ViTModel(config, add_pooling_layer=False)
    elif model.reg_token is None:
        other = transformers.Dinov2Model(transformers.Dinov2Config(**shape))
    else:
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=model.reg_token.shape[1], **shape)
        other = transformers.Dinov2WithRegistersModel(config)
    other.load_state_dict(renamed(model.state_dict(), dinov2), strict=True)
    return other.eval()


def features(name, model, images):
    """The map (N, C, h, w) of the patch tokens and the class token (N, C), by transformers."""
    other = native(name, model)
    with torch.inference_mode():
        tokens = other(pixel_values=images).last_hidden_state
    patch = model.patch_embed.patch_size
    grid = tuple(side // p for side, p in zip(images.shape[2:], patch))
    # (N, T, C) -> (N, C, h, w); the class token comes first, registers after it
    return tokens[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid), tokens[:, 0]
