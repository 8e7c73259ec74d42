"""Golden views for evaluation: what timm and torchvision make of a photograph file through PIL.

Made with timm 1.0.31, torchvision 0.29.2 and pillow 13.0.0:

    python tests/golden/preprocess.py tests/golden/preprocess.safetensors

The photographs are made here by formula, with edges, slopes and texture, one wide and one tall, and
written beside the tensors as `preprocess_wide.jpg` and `preprocess_tall.png`. Stored per case
`PHOTO.INTERPOLATION.SIZE.CROP_PCT` is the 8-bit picture before it is normalised, (3, SIZE, SIZE);
`torchvision` in the place of the interpolation is Resize(256) and CenterCrop(224) at a quarter of the
size. `normalised` is the first case as the network gets it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "benches/torch"))
from formula import uniform  # noqa: E402

CASES = [("bilinear", 64, 0.875), ("bicubic", 64, 0.9), ("bicubic", 56, 1.0), ("bilinear", 48, 0.95)]


def photo(name, height, width):
    """Large soft patches, texture, a slope, and edges of black, white and pure colours."""
    patches = (uniform(f"{name}.patches", 12 * 16 * 3).reshape(12, 16, 3) * 110 + 128).astype(np.uint8)
    picture = np.asarray(Image.fromarray(patches).resize((width, height), Image.BICUBIC), dtype=np.float64)
    y, x = np.mgrid[:height, :width]
    picture = picture + 20 * np.sin(0.45 * x + 0.2 * y)[..., None] + (40 * x / width - 20)[..., None]
    picture[height // 3 : height // 2, width // 4 : width // 3] = 0
    picture[height // 2 : 2 * height // 3, width // 2 : 3 * width // 4] = 255
    picture[height // 5 : height // 4, width // 8 : 7 * width // 8] = (230, 30, 40)
    picture[(x + y) % 64 < 3] = (20, 90, 220)
    return Image.fromarray(picture.clip(0, 255).round().astype(np.uint8))


def main(out):
    folder = Path(out).parent
    photo("wide", 231, 340).save(folder / "preprocess_wide.jpg", quality=88)
    photo("tall", 203, 150).save(folder / "preprocess_tall.png", optimize=True)
    tensors = {}
    for name in ("preprocess_wide.jpg", "preprocess_tall.png"):
        image = Image.open(folder / name).convert("RGB")
        kind = name.removeprefix("preprocess_").partition(".")[0]
        for interpolation, size, crop_pct in CASES:
            chosen = dict(input_size=(3, size, size), interpolation=interpolation, crop_pct=crop_pct)
            tensors[f"{kind}.{interpolation}.{size}.{crop_pct}"] = create_transform(normalize=False, **chosen)(image)
            if not any(name.startswith("normalised") for name in tensors):
                mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
                tensors["normalised"] = create_transform(mean=mean, std=std, **chosen)(image)
        usual = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56), transforms.PILToTensor()])
        tensors[f"{kind}.torchvision.56.0.875"] = usual(image)
    tensors["normalised"] = tensors["normalised"].to(torch.float16)  # half the bytes; errs by 1e-3
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)


if __name__ == "__main__":
    main(sys.argv[1])
