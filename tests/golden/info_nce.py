"""InfoNCE with its gradients, and a queue entry of the same image left out, by PyTorch's autograd.

python tests/golden/info_nce.py tests/golden/info_nce.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f32).
"""

import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
n, d, k, temperature = 6, 16, 20, 0.2
features = torch.randn(n, d, requires_grad=True)
queries = F.normalize(features, dim=1)
queries.retain_grad()
keys = F.normalize(features.detach() + 3 * torch.randn(n, d), dim=1)
queue = F.normalize(torch.randn(k, d), dim=1)
images = torch.arange(n) + 3
queue_images = torch.arange(k) % 11


def info_nce(negative):
    positive = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([positive, negative], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(n, dtype=torch.long))


negative = queries @ queue.T
same = images[:, None] == queue_images[None, :]
out = {}
for name, value in {
    "plain": negative,
    "excluded": negative.masked_fill(same, float("-inf")),
}.items():
    features.grad = queries.grad = None
    loss = info_nce(value)
    loss.backward(retain_graph=True)
    out[f"{name}.loss"] = loss.detach().reshape(1)
    out[f"{name}.queries_grad"] = queries.grad.clone()
    out[f"{name}.features_grad"] = features.grad.clone()
    hardest = value.detach().max(1).values
    top1 = ((queries * keys).sum(1).detach() > hardest).float().mean()
    out[f"{name}.top1"] = top1.reshape(1)
out["excluded.negative"] = negative.detach()[~same].mean().reshape(1)
out["positive"] = (queries * keys).sum(1).detach().mean().reshape(1)
out |= {
    "features": features.detach(),
    "keys": keys,
    "queue": queue,
    "images": images.to(torch.int64),
    "queue_images": queue_images.to(torch.int64),
}
save_file({name: value.contiguous() for name, value in out.items()}, sys.argv[1])
