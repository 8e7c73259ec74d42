"""Images to features, with running statistics and without gradients."""

import torch
import torchvision
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mode import Feed


def fold(model):
    """Batch norm into the convolutions of timm's EfficientNet, whose layers `fuse` does not know; what is left of
    a norm is its activation."""
    for module in list(model.modules()):
        children = dict(module.named_children())
        pairs = [("conv_stem", "bn1"), ("conv_head", "bn2"), ("conv_pw", "bn1"), ("conv_pwl", "bn3")]
        pairs.append(("conv_dw", "bn2" if "conv_pwl" in children else "bn1"))
        if "conv_pwl" not in children:
            pairs[2] = ("conv_pw", "bn2")  # a block that does not expand
        for conv, norm in pairs:
            if conv not in children or norm not in children:
                continue
            conv, bn = children[conv], children[norm]
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
            )
            setattr(module, norm, torch.nn.Sequential(bn.drop, bn.act))


class Embed:
    """On the CPU: `channels_last`, `folded` (batch norm in the convolutions' weights), `compiled` (that, by
    inductor, with the weights frozen into the program), `bf16` (folded, under autocast). As on a GPU: `eager`
    (folded, weights and images in the precision) and `compiled`; features come back to the host."""

    def __init__(self, network, side, batch, mode):
        mode.check("embedding", ("channels_last", "folded", "compiled", "bf16"))
        self.mode, self.images = mode, batch
        self.feed = Feed([torch.randn(batch, 3, side, side)], mode)
        if network.startswith("vit_"):
            import timm  # whose vision transformers have no batch norm to fold

            model = timm.create_model(network, num_classes=0, img_size=side).eval().requires_grad_(False)
        elif "efficientnet" in network:
            import timm

            model = timm.create_model(network, num_classes=0).eval().requires_grad_(False)
            if mode.name != "channels_last":
                fold(model)
        else:
            model = getattr(torchvision.models, network)()
            model.fc = torch.nn.Identity()
            model = model.eval().requires_grad_(False)
            if mode.name != "channels_last":
                model = fuse(model)
        # Autocast would round the weights anew at each step.
        self.dtype = torch.bfloat16 if mode.precision and mode.bf16 else torch.float32
        self.model = model.to(mode.device, self.dtype, memory_format=mode.format)
        if mode.name == "compiled":
            torch._inductor.config.freezing = True
            self.model = torch.compile(self.model)
            self.step()  # compiles, or fails here and not among the repetitions

    @torch.inference_mode()
    def step(self):
        (x,) = self.feed.next()
        if self.mode.precision is None:
            with self.mode.autocast():
                return self.model(x)
        return self.model(x.to(self.dtype)).float().cpu()
