"""Patch match: the loss of places and its gradients, for crates/fgvr-ssl/tests/patch_match.rs.

    python tests/golden/patch_match.py tests/golden/patch_match.safetensors

Made with torch 2.15.0, safetensors 0.8.0 (CPU, f64, stored as f32), written from the equations place by place.
Stored: two maps, the projector's weights (`head.NAME`), the loss of the first map against the second and of the
second against the first (`forth`, `back`), and the gradients of their mean at both maps and the weights
(`grad.NAME`). The third image is the first one again.
"""

import sys

import torch
from safetensors.torch import save_file

N, C, H, W, HIDDEN, D, T = 4, 5, 2, 3, 7, 6, 0.2
IMAGES = [4, 9, 4, 2]


def main(path):
    torch.manual_seed(3)
    torch.set_num_threads(1)
    maps = [torch.rand(N, C, H, W), torch.rand(N, C, H, W)]
    head = {
        "0.weight": torch.randn(HIDDEN, C) * 0.5,
        "0.bias": torch.randn(HIDDEN) * 0.1,
        "2.weight": torch.randn(D, HIDDEN) * 0.5,
        "2.bias": torch.randn(D) * 0.1,
    }
    out = {"first": maps[0].clone(), "second": maps[1].clone()}
    out |= {f"head.{name}": tensor.clone() for name, tensor in head.items()}
    maps = [m.double().requires_grad_() for m in maps]
    head = {name: tensor.double().requires_grad_() for name, tensor in head.items()}

    def project(x):
        z = torch.clamp(head["0.weight"] @ x + head["0.bias"], min=0)
        z = head["2.weight"] @ z + head["2.bias"]
        return z / z.norm()

    def place(f, n, i):
        return f[n, :, i // W, i % W]

    def loss(f, g):
        total = 0
        for n in range(N):
            for i in range(H * W):
                x = place(f, n, i)
                cosines = [torch.dot(x, place(g, n, j)) / x.norm() / place(g, n, j).norm() for j in range(H * W)]
                match = max(range(H * W), key=lambda j: cosines[j].item())
                q = project(x)
                positive = torch.exp(q @ project(place(g, n, match)).detach() / T)
                negatives = sum(
                    torch.exp(q @ project(place(g, m, j)).detach() / T)
                    for m in range(N)
                    if IMAGES[m] != IMAGES[n]
                    for j in range(H * W)
                )
                total = total - torch.log(positive / (positive + negatives))
        return total / (N * H * W)

    forth = loss(maps[0], maps[1].detach())
    back = loss(maps[1], maps[0].detach())
    ((forth + back) / 2).backward()
    out |= {"forth": forth.detach(), "back": back.detach()}
    out |= {"grad.first": maps[0].grad, "grad.second": maps[1].grad}
    out |= {f"grad.{name}": tensor.grad for name, tensor in head.items()}
    save_file({name: tensor.float().contiguous() for name, tensor in out.items()}, path)


if __name__ == "__main__":
    main(sys.argv[1])
