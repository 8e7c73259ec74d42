"""Grad-CAM of a linear head's cross-entropy, and a grey overlay, by PyTorch's autograd.

python tests/golden/gradcam.py tests/golden/gradcam.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f32).
"""

import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
fmap = torch.relu(torch.randn(2, 8, 5, 3)).requires_grad_(True)
weight = torch.randn(4, 8)
targets = torch.tensor([2, 0])
loss = F.cross_entropy(fmap.mean((2, 3)) @ weight.T, targets)
(grad,) = torch.autograd.grad(loss, fmap)
# A gradient that differs from place to place, so that its mean is tested too.
extra = torch.randn_like(grad) * 0.01
grad = grad + extra - extra.mean((2, 3), keepdim=True)
signed = (grad.mean((2, 3), keepdim=True) * fmap).sum(1).detach()
cam = torch.relu(signed)

image = torch.rand(3, 17, 8)
big = F.interpolate(cam[:1, None], size=(17, 8), mode="bilinear", align_corners=False)[0, 0]
overlay = 0.5 * image + 0.5 * (big / big.max()).expand(3, -1, -1)

save_file(
    {
        "map": fmap.detach().contiguous(),
        "grad": grad.contiguous(),
        "weight": weight,
        "targets": targets,
        "cam": cam,
        "cam_lowers": torch.relu(-signed),
        "image": image,
        "overlay": overlay.contiguous(),
    },
    sys.argv[1],
)
