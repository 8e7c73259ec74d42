"""Images to features, with running statistics and without gradients."""

import torch
import torchvision
from torch.fx.experimental.optimization import fuse


class Embed:
    """Modes: `channels_last`, `folded` (batch norm in the convolutions' weights), `compiled` (that, by
    inductor, with the weights frozen into the program), `bf16` (folded, under autocast)."""

    def __init__(self, network, side, batch, mode):
        modes = ("channels_last", "folded", "compiled", "bf16")
        if mode not in modes:
            raise ValueError(f"no embedding mode `{mode}`; there are {', '.join(modes)}")
        self.bf16 = mode == "bf16"
        self.images = batch
        self.x = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        if network.startswith("vit_"):
            import timm  # whose vision transformers have no batch norm to fold

            model = timm.create_model(network, num_classes=0, img_size=side).eval().requires_grad_(False)
        else:
            model = getattr(torchvision.models, network)()
            model.fc = torch.nn.Identity()
            model = model.eval().requires_grad_(False)
            if mode != "channels_last":
                model = fuse(model)
        self.model = model.to(memory_format=torch.channels_last)
        if mode == "compiled":
            torch._inductor.config.freezing = True
            self.model = torch.compile(self.model)
            self.step()  # compiles, or fails here and not among the repetitions

    @torch.inference_mode()
    def step(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.model(self.x)
