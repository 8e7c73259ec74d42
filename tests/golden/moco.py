"""MoCo's momentum update over three steps, a projection head with L2 normalisation, and its gradients.

python tests/golden/moco.py tests/golden/moco.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f32).
"""

import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(0)
head = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 8))
key = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 8))
out = {f"key.start.{name}": p.detach().clone() for name, p in key.named_parameters()}
out |= {f"online.0.{name}": p.detach().clone() for name, p in head.named_parameters()}

pooled = torch.rand(5, 12, requires_grad=True)
weight = torch.randn(5, 8)
z = F.normalize(head(pooled), dim=1)
(z * weight).sum().backward()
out |= {"pooled": pooled.detach(), "weight": weight, "z": z.detach(), "pooled_grad": pooled.grad}
out |= {f"grad.{name}": p.grad for name, p in head.named_parameters()}

# The released code's arithmetic: param_k.data = param_k.data * m + param_q.data * (1. - m)
m = 0.99
with torch.no_grad():
    for step in range(3):
        if step > 0:
            for name, p in head.named_parameters():
                p.add_(torch.randn_like(p) * 0.1)
                out[f"online.{step}.{name}"] = p.detach().clone()
        for p, k in zip(head.parameters(), key.parameters()):
            k.data = k.data * m + p.data * (1.0 - m)
out |= {f"key.end.{name}": p.detach().clone() for name, p in key.named_parameters()}
save_file({name: value.contiguous() for name, value in out.items()}, sys.argv[1])
