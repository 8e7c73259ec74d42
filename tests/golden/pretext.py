"""Rotation and patch shuffle: the images, the loss and its gradients, for crates/fgvr-ssl/tests/pretext.rs.

    python tests/golden/pretext.py tests/golden/pretext.safetensors

Made with torch 2.15.0, safetensors 0.8.0 (CPU, f64, stored as f32), written from the definitions: torch.rot90 by y
quarter turns, or the four patches of a 2 x 2 grid put where the y-th order of `itertools.permutations` has them (place p
gets patch orders[y][p]); then L = mean -log softmax(W h + b)_y of h = mean over places of ReLU(BatchNorm(conv(x))).
Stored: images, the encoder's weights, and for each task `answers`, `seen` (the images as the answers have them),
`weight`, `bias`, `loss`, `top1`, and `grad.NAME` of `loss` at h, at the encoder's weights, and at W and b.
"""

import itertools
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

N, SIDE, WIDTH, PATCH = 8, 8, 12, 4
ORDERS = list(itertools.permutations(range(4)))


def rotated(image, answer):
    return torch.rot90(image, answer, (1, 2))


def shuffled(image, answer):
    out = torch.empty_like(image)
    for place, patch in enumerate(ORDERS[answer]):
        (r, c), (y, x) = [(PATCH * (i // 2), PATCH * (i % 2)) for i in (place, patch)]
        out[:, r : r + PATCH, c : c + PATCH] = image[:, y : y + PATCH, x : x + PATCH]
    return out


def main(path):
    torch.manual_seed(5)
    torch.set_num_threads(1)
    images = torch.rand(N, 3, SIDE, SIDE) * 2 - 1
    encoder = {
        "conv.weight": torch.randn(WIDTH, 3, 2, 2) * 0.3,
        "bn.weight": 1 + 0.2 * torch.randn(WIDTH),
        "bn.bias": 0.1 + 0.2 * torch.randn(WIDTH),
    }
    out = {"images": images, "orders": torch.tensor(ORDERS)} | encoder
    tasks = {
        "rotation": (rotated, 4, [0, 1, 2, 3, 3, 1, 2, 0]),
        "patch-shuffle": (shuffled, 24, [0, 7, 23, 1, 16, 9, 7, 12]),
    }
    for task, (changed, count, answers) in tasks.items():
        w, b = torch.randn(count, WIDTH) * 0.5, torch.randn(count) * 0.2
        out |= {f"{task}.weight": w, f"{task}.bias": b, f"{task}.answers": torch.tensor(answers)}
        leaves = {name: t.double().requires_grad_() for name, t in (encoder | {"weight": w, "bias": b}).items()}
        seen = torch.stack([changed(image, y) for image, y in zip(images, answers)])
        x = F.conv2d(seen.double(), leaves["conv.weight"], stride=2)
        x = F.batch_norm(x, None, None, leaves["bn.weight"], leaves["bn.bias"], training=True)
        # No ReLU on the edge, where f32 and f64 could differ.
        assert x.abs().min() > 1e-5
        h = F.relu(x).mean((2, 3))
        h.retain_grad()
        logits = h @ leaves["weight"].T + leaves["bias"]
        loss = F.cross_entropy(logits, torch.tensor(answers))
        loss.backward()
        top1 = (logits.argmax(1) == torch.tensor(answers)).double().mean()
        out |= {f"{task}.seen": seen, f"{task}.loss": loss.detach(), f"{task}.top1": top1}
        out |= {f"{task}.grad.{name}": leaf.grad for name, leaf in leaves.items()}
        out[f"{task}.grad.h"] = h.grad
        print(task, loss.item(), top1.item())
    stored = lambda t: t.float() if t.is_floating_point() else t
    save_file({name: stored(t).contiguous() for name, t in out.items()}, path)


if __name__ == "__main__":
    main(sys.argv[1])
