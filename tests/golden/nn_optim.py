"""Golden tensors of fgvr-nn's optimisers: five steps with fixed gradients.

    python tests/golden/nn_optim.py OUT.safetensors

The file beside this script was made with PyTorch 2.15.0 (CPU, f32) and safetensors 0.8.0.
`norm.weight` and `norm.bias` are 1-d: where a case says `exclude`, they have no weight decay.
"""

import sys

import torch
from safetensors.torch import save_file

OUT = {}
SEED = torch.Generator().manual_seed(21)
STEPS = 5
SHAPES = {"conv.weight": (4, 3, 2, 2), "norm.weight": (4,), "norm.bias": (4,)}
START = {name: torch.randn(*shape, generator=SEED) for name, shape in SHAPES.items()}
GRADIENTS = [{name: torch.randn(*shape, generator=SEED) for name, shape in SHAPES.items()} for _ in range(STEPS)]

for name in SHAPES:
    OUT[f"start.{name}"] = START[name]
    for step in range(STEPS):
        OUT[f"gradient.{step}.{name}"] = GRADIENTS[step][name]


def run(case, make, decay, exclude):
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in START.items()}
    groups = [
        {"params": [p], "weight_decay": 0.0 if exclude and p.dim() <= 1 else decay} for p in parameters.values()
    ]
    optimizer = make(groups)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
        for name, p in parameters.items():
            p.grad = GRADIENTS[step][name].clone()
        optimizer.step()
        for name, p in parameters.items():
            OUT[f"{case}.{step}.{name}"] = p.detach().clone()
    for name, p in parameters.items():
        for key, value in optimizer.state[p].items():
            if torch.is_tensor(value) and value.dim() > 0:
                OUT[f"{case}.{key}.{name}"] = value.clone()


run("sgd", lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9), 1e-2, True)
run("sgd_all", lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9), 1e-2, False)
run("sgd_plain", lambda groups: torch.optim.SGD(groups, lr=0.1), 1e-2, False)
run("adamw", lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.99), eps=1e-8), 5e-2, True)
run("adamw_all", lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.999), eps=1e-6), 5e-2, False)



class Lars(torch.optim.Optimizer):
    """d = g + decay p; v = momentum v + trust |p| / |d| d; p = p - lr v; plain SGD up to one dimension."""

    def __init__(self, groups, lr, momentum, trust, all_adapt):
        super().__init__(groups, dict(lr=lr, momentum=momentum, trust=trust, all_adapt=all_adapt))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                d, velocity = p.grad, self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                if p.dim() > 1 or group["all_adapt"]:
                    d = d + group["weight_decay"] * p
                    rate = group["trust"] * p.double().norm() / d.double().norm()
                    d = d * rate.float()
                velocity.copy_(group["momentum"] * velocity + d)
                p.sub_(group["lr"] * velocity)


# A trust of 0.1, so that what it does can be seen in five steps.
run("lars", lambda groups: Lars(groups, 0.1, 0.9, 0.1, False), 1e-2, True)
run("lars_all", lambda groups: Lars(groups, 0.1, 0.5, 0.1, True), 5e-1, False)

# Clipping to a norm of 1.5 with PyTorch's clip_grad_norm_.
parameters = [torch.nn.Parameter(value.clone()) for value in START.values()]
for p, gradient in zip(parameters, GRADIENTS[0].values()):
    p.grad = gradient.clone()
OUT["clip.norm"] = torch.nn.utils.clip_grad_norm_(parameters, 1.5).reshape(1)
for name, p in zip(SHAPES, parameters):
    OUT[f"clip.{name}"] = p.grad

save_file({k: v.contiguous().clone() for k, v in OUT.items()}, sys.argv[1])
