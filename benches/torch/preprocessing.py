"""A photograph's view for evaluation by timm's transform (PIL), beside the one that fgvr wrote."""

from PIL import Image
from timm.data import create_transform

from gradients import read


def compare(size, crop_pct, interpolation, path, photo):
    """Mean and largest difference, in grey levels of 255."""
    transform = create_transform(
        input_size=(3, int(size), int(size)), crop_pct=float(crop_pct), interpolation=interpolation, normalize=False
    )
    theirs = transform(Image.open(photo).convert("RGB")).double()
    off = (read(path)["view"].double() * 255 - theirs).abs()
    return {"mean": off.mean().item(), "max": off.max().item()}
