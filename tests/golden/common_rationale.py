"""LCR: the screening map, its Grad-CAM target, the fit and its gradients, in every form, route and sign.

python tests/golden/common_rationale.py tests/golden/common_rationale.safetensors
Made with torch 2.15.0, safetensors 0.8.0 (CPU, f64 inside, f32 in the file). Written from the equations.
"""

import itertools
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
N, C, H, W, R, EPS = 3, 6, 3, 4, 4, 1e-7
fmap = torch.relu(torch.randn(N, C, H, W)).double()
gradient = torch.randn(N, C).double() * 0.05
conv = torch.randn(R, C, 1, 1).double() * 0.5
gain, shift = torch.rand(R).double() + 0.5, torch.randn(R).double() * 0.3
OUT = {
    "map": fmap,
    "gradient": gradient,
    "conv": conv.reshape(R, C),
    "gain": gain,
    "shift": shift,
}


def screening(x, conv, gain, shift, scaling):
    x = F.batch_norm(F.conv2d(x, conv), None, None, gain, shift, training=True)
    a = F.relu(x).amax(1)
    if scaling == "batch":
        return (a - a.min()) / (EPS + a.max())
    low, high = a.amin((1, 2), keepdim=True), a.amax((1, 2), keepdim=True)
    if scaling == "no-minimum":
        return a / (EPS + high)
    return (a - low) / (EPS + high - low)


def grad_cam(x, sign, scaling):
    g = F.relu(sign * (x * gradient[:, :, None, None] / (H * W)).sum(1))
    return g / (g.amax((1, 2), keepdim=True) + EPS) if scaling == "per-image" else g


def divergence(g, a, softmax, t, reduction):
    if softmax == "flattened":
        g, a = g.flatten(1), a.flatten(1)
    log_p, log_q = F.log_softmax(g / t, -1), F.log_softmax(a / t, -1)
    total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    return total / N if reduction == "mean" else total


FORMS = {
    "corrected": ("per-image", "per-image", "flattened", 0.4, "mean"),
    "no-minimum": ("no-minimum", "per-image", "flattened", 0.4, "mean"),
    "released-moco": ("batch", "raw", "rows", 1.0, "sum"),
    "released-byol": ("batch", "raw", "flattened", 0.4, "sum"),
}
ROUTES = ["released", "constant-target", "read-out"]
SIGNS = {"raises-loss": 1, "lowers-loss": -1}
for form, route, sign in itertools.product(FORMS, ROUTES, SIGNS):
    a_scaling, g_scaling, softmax, t, reduction = FORMS[form]
    leaves = [x.clone().requires_grad_(True) for x in (fmap, conv, gain, shift)]
    x = leaves[0].detach() if route == "read-out" else leaves[0]
    a = screening(x, *leaves[1:], a_scaling)
    g = grad_cam(x, SIGNS[sign], g_scaling)
    g = g if route == "released" else g.detach()
    loss = divergence(g, a, softmax, t, reduction)
    loss.backward()
    name = f"{form}.{route}.{sign}"
    OUT[f"{name}.loss"] = loss.detach().reshape(1)
    if route != "read-out":
        OUT[f"{name}.map_grad"] = leaves[0].grad
    OUT[f"{name}.conv_grad"] = leaves[1].grad.reshape(R, C)
    OUT[f"{name}.gain_grad"], OUT[f"{name}.shift_grad"] = leaves[2].grad, leaves[3].grad
    if route == "released":
        OUT[f"{form}.{sign}.rationale"], OUT[f"{form}.{sign}.target"] = a.detach(), g.detach()

save_file({k: v.float().contiguous() for k, v in OUT.items()}, sys.argv[1])
