"""The PyTorch side of `cargo xtask bench`: prepares a case and repeats it when told to.

python benches/torch/server.py --mode channels_last --threads 2 [--device cuda --precision bf16]

It reads requests and answers as benches/src/protocol.rs says: `case NAME`, `run K`, `memory`,
`reset`, `gradients SIZE FILE`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

# Compilers and libraries that print must not print among the answers.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
import torchvision  # noqa: E402

from mode import Mode  # noqa: E402


def say(**answer):
    print(json.dumps(answer), file=ANSWERS, flush=True)


def memory():
    """Resident bytes of this process: now, and at most since the start."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    return {name: int(fields[field].split()[0]) * 1024 for name, field in (("resident", "VmRSS"), ("peak", "VmHWM"))}


def device_memory(device):
    """What the allocator took from the GPU at most, and what tensors held of it."""
    if device.type != "cuda":
        return {}
    return {"device_reserved": torch.cuda.max_memory_reserved(), "device_peak": torch.cuda.max_memory_allocated()}


def versions(device):
    """The GPU and its libraries."""
    if device.type != "cuda":
        return {"device": "cpu"}
    name = torch.cuda.get_device_name(device)
    return {"device": name, "cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}


def refuse_without_gpu(device):
    if device.type != "cuda":
        return
    if torch.version.cuda is None:
        sys.exit(f"PyTorch {torch.__version__} is a build without CUDA; FGVR_PYTHON can name another interpreter")
    if not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} finds no GPU on this machine")
    if device.index is not None:
        torch.cuda.set_device(device)


def minor_faults():
    with open("/proc/self/stat") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[7])


def prepare(name, mode):
    """The case called `name`; an object with `images` and `step()`."""
    group, _, rest = name.partition("/")
    if group == "train" and rest.startswith("moco-"):
        from moco import MoCoStep

        return MoCoStep(*size(rest.removeprefix("moco-")), mode)
    if group == "train" and rest.startswith("synthpair-"):
        from synthpair import SynthPairStep

        return SynthPairStep(*size(rest.removeprefix("synthpair-")), mode)
    if group == "train":
        from train import Train

        return Train(*size(rest), mode)
    if group == "embed":
        from embed import Embed

        return Embed(*size(rest), mode)
    if group == "judge":
        from judge import Judge

        return Judge(rest, mode)
    if group == "micro":
        from convolution import Convolution

        return Convolution(rest, mode.name)
    raise ValueError(f"no case `{name}`; its name begins with train/, embed/, judge/ or micro/")


def size(name):
    """resnet50-224-b16: the network's name, the side of its images, their number."""
    network, side, batch = name.split("-")
    return network, int(side), int(batch.removeprefix("b"))


def answer(line, case, mode):
    word, _, rest = line.strip().partition(" ")
    if word == "case":
        case = None  # the one before goes first, so that two never share the memory
        case = prepare(rest, mode)
        say(ready=rest, images=case.images)
    elif word == "run":
        if case is None:
            raise ValueError("run: no case was prepared")
        before = minor_faults()
        for _ in range(int(rest)):
            start = time.perf_counter()
            case.step()
            mode.wait()
            say(seconds=time.perf_counter() - start)
        say(done=int(rest), faults=minor_faults() - before)
    elif word == "memory":
        say(**memory(), **device_memory(mode.device))
    elif word == "reset":
        if mode.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        say(reset=True)
    elif word == "gradients":
        from gradients import compare

        name, _, path = rest.partition(" ")
        network, _, _ = size(name)
        say(gradients=name, **compare(network, path))
    else:
        raise ValueError(f"`{line.strip()}`: expected case NAME, run K, memory, reset or gradients SIZE FILE")
    return case


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("f32", "tf32", "bf16"))
    args = parser.parse_args()
    refuse_without_gpu(torch.device(args.device))
    mode = Mode(args.mode, args.device, args.precision)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    say(
        hello="torch",
        version=torch.__version__,
        torchvision=torchvision.__version__,
        threads=torch.get_num_threads(),
        resident=memory()["resident"],
        **versions(mode.device),
    )
    case = None
    for line in sys.stdin:
        try:
            case = answer(line, case, mode)
        except Exception as error:  # an answer too: the mode is reported as failed, with its reason
            case = None
            say(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
