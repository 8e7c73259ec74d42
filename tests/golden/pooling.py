"""Golden tensors of a small vision transformer's poolings, for crates/fgvr-encoder/tests/vit.rs.

    python tests/golden/pooling.py tests/golden/pooling.safetensors

The network with registers of vit.py, made with PyTorch 2.15 and timm 1.0.31 on a CPU, in f64, stored as f32 as there.
`patch-mean` is timm's `global_pool="avg"` with `fc_norm=False`, which leaves the last norm before the mean; `both` is the
class token and then that mean. Stored per case: `eval.pooled`, and gradients of sum(map * a) + sum(pooled * b).
"""

import sys

import torch
import vit
from shared.networks import compact, f32_deviations, save

CONFIG = dict(
    img_size=42, patch_size=14, embed_dim=20, depth=2, num_heads=2, init_values=1e-5, reg_tokens=2, no_embed_class=True
)


def both(model, images):
    map_, class_, _ = plain(model, images)
    return map_, torch.cat([class_, map_.mean((2, 3))], 1), {}


def pooled_alone(model, images):
    map_, pooled, _ = plain(model, images)
    return map_, pooled, {}


def main(path):
    torch.set_num_threads(1)
    stored = {}
    for case, tokens_of, config in (
        ("patch-mean", pooled_alone, {"global_pool": "avg", "fc_norm": False}),
        ("both", both, {}),
    ):
        vit.tokens_of = tokens_of
        runs = [vit.run(CONFIG | config, (2, 3, 42, 28), dtype) for dtype in (torch.float64, torch.float32)]
        for run in runs:
            del run["eval.map"]
        exact, single = runs
        stored |= f32_deviations(case, exact, single, ("eval", "grad"))
        stored |= {f"{case}.{name}": array for name, array in compact(exact, 600, "grad.").items()}
    save(stored, path)


plain = vit.tokens_of

if __name__ == "__main__":
    main(sys.argv[1])
