"""What the scripts that make golden tensors of whole networks share: what is stored, and the tolerance with it."""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benches/torch"))
from formula import uniform  # noqa: E402


def compact(out, most, prefix=""):
    """`out` with its tensors of more than `most` values, if their names begin with `prefix`, as first values, norm, and
    four signed sums."""
    small = {}
    for name, array in out.items():
        if not name.startswith(prefix) or array.size <= most:
            small[name] = array
            continue
        flat = array.ravel()
        signs = np.sign(uniform(f"{name}#signed", 4 * flat.size).reshape(4, -1) + 2**-25)
        small[f"{name}#first"] = flat[:64]
        small[f"{name}#norm"] = np.array([np.linalg.norm(flat)])
        small[f"{name}#signed"] = signs @ flat
    return small


def f32_deviations(case, exact, single, groups):
    """How far PyTorch's own f32 run is off at worst in each group of tensors, as a share of each tensor's largest value."""
    off = {name: np.abs(exact[name] - single[name]).max() / np.abs(exact[name]).max() for name in exact}
    found = {}
    for group in groups:
        worst = max((name for name in off if name.startswith(f"{group}.")), key=off.get)
        print(case, "PyTorch's f32 is off by", off[worst], "at", worst)
        found[f"{case}.f32_deviation.{group}"] = np.array([off[worst]])
    return found


def save(stored, path):
    save_file({name: np.ascontiguousarray(array, dtype=np.float32) for name, array in stored.items()}, path)
    print(Path(path).stat().st_size, "bytes")


def write_names(path, models):
    """Name and shape of each parameter and running statistic of `models`, (name, model), without a classifier."""
    lines = []
    for model, network in models:
        for name, tensor in network.state_dict().items():
            if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
                lines.append(f"{model} {name} {','.join(map(str, tensor.shape))}\n")
    Path(path).write_text("".join(lines))
