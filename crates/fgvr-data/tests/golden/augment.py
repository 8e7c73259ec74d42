"""Golden tensors for src/augment: what torchvision makes of given (not drawn) parameters.

Made with PyTorch 2.15.0 and torchvision 0.29.2 on the CPU:

    python tests/golden/augment.py tests/golden/augment.safetensors

Every operation runs on float32 planes in [0, 1]; its parameters are saved beside its result, so that
the Rust test draws nothing.
"""

import sys

import torch
from safetensors.torch import save_file
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

SIZE = 20
HEIGHT, WIDTH = 45, 61


def photo():
    """A picture with edges, a gradient, noise, exact greys, black and white."""
    torch.manual_seed(3)
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    planes = torch.stack([x, y, 0.5 + 0.5 * torch.sin(9 * x + 7 * y)])
    planes = (planes + 0.1 * torch.randn(3, HEIGHT, WIDTH)).clamp(0, 1)
    planes[:, 5:12, 5:12] = 0.5
    planes[:, 20:26, 30:40] = 0.0
    planes[:, 30:36, 10:20] = 1.0
    return (planes * 255).round().to(torch.uint8)


def main(out):
    tensors = {}
    image = photo()
    tensors["photo"] = image.permute(1, 2, 0).contiguous()  # (H, W, 3), as fgvr-data holds it
    unit = F.to_dtype(image, torch.float32, scale=True)

    # (top, left, height, width): shrinking, growing in both directions, mixed, whole
    boxes = [[3, 7, 40, 31], [10, 20, 9, 12], [0, 0, HEIGHT, WIDTH], [17, 2, 8, 59], [44, 60, 1, 1]]
    tensors["crop.boxes"] = torch.tensor(boxes, dtype=torch.int64)
    for i, (top, left, height, width) in enumerate(boxes):
        tensors[f"crop.{i}"] = F.resized_crop(unit, top, left, height, width, [SIZE, SIZE], antialias=True)

    small = tensors["crop.0"]
    tensors["small"] = small
    tensors["flip"] = F.horizontal_flip(small)
    for name, adjust, factors in [
        ("brightness", F.adjust_brightness, [0.6, 1.0, 1.4]),
        ("contrast", F.adjust_contrast, [0.0, 0.6, 1.4]),
        ("saturation", F.adjust_saturation, [0.0, 0.6, 1.4]),
        ("hue", F.adjust_hue, [-0.5, -0.07, 0.1, 0.5]),
    ]:
        tensors[f"{name}.factors"] = torch.tensor(factors, dtype=torch.float64)
        for i, factor in enumerate(factors):
            tensors[f"{name}.{i}"] = adjust(small, factor)
    greys = torch.full((3, SIZE, SIZE), 0.25)
    tensors["hue.greys"] = F.adjust_hue(greys, 0.3)

    # two orders of the same four adjustments: 0 brightness, 1 contrast, 2 saturation, 3 hue
    factors = dict(brightness_factor=1.3, contrast_factor=0.7, saturation_factor=1.35, hue_factor=-0.08)
    tensors["jitter.factors"] = torch.tensor(list(factors.values()), dtype=torch.float64)
    orders = [[2, 0, 3, 1], [3, 1, 0, 2]]
    tensors["jitter.orders"] = torch.tensor(orders, dtype=torch.int64)
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    for i, order in enumerate(orders):
        tensors[f"jitter.{i}"] = jitter.transform(small, dict(fn_idx=torch.tensor(order), **factors))

    tensors["gray"] = F.rgb_to_grayscale(small, num_output_channels=3).contiguous()

    blurs = [[3, 0.1], [7, 0.8], [23, 2.0]]
    tensors["blur.settings"] = torch.tensor(blurs, dtype=torch.float64)
    for i, (kernel, sigma) in enumerate(blurs):
        tensors[f"blur.{i}"] = F.gaussian_blur(small, [int(kernel)] * 2, [sigma] * 2)

    tensors["solarise"] = F.solarize(small, 0.5)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    tensors["normalise"] = F.normalize(small, mean, std)

    # evaluation: shorter side to round(SIZE * 256 / 224), centre crop
    resize = round(SIZE * 256 / 224)
    resized = F.resize(unit, [resize], antialias=True)
    tensors["evaluate"] = F.normalize(F.center_crop(resized, [SIZE, SIZE]), mean, std)

    # the crop that is taken when ten tries fail: (H, W, min ratio, max ratio) -> (top, left, h, w)
    cases = [[10, 200, 0.75, 4 / 3], [200, 10, 0.75, 4 / 3], [50, 60, 0.75, 4 / 3], [7, 31, 0.9, 1.1]]
    boxes = []
    for height, width, low, high in cases:
        # a scale that never fits
        boxes.append(RandomResizedCrop.get_params(torch.zeros(3, height, width), [9.0, 9.5], [low, high]))
    tensors["fallback.cases"] = torch.tensor(cases, dtype=torch.float64)
    tensors["fallback.boxes"] = torch.tensor(boxes, dtype=torch.int64)

    # a whole view: crop, jitter, grey left out, blur, solarise, flip, normalise
    view = F.resized_crop(unit, 3, 7, 40, 31, [SIZE, SIZE], antialias=True)
    view = jitter.transform(view, dict(fn_idx=torch.tensor(orders[0]), **factors))
    view = F.gaussian_blur(view, [3, 3], [1.1, 1.1])
    view = F.solarize(view, 0.5)
    view = F.horizontal_flip(view)
    tensors["view"] = F.normalize(view, mean, std)

    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out)


if __name__ == "__main__":
    main(sys.argv[1])
