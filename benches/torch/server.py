"""The PyTorch side of `cargo xtask bench`: prepares a case and repeats it when told to.

python benches/torch/server.py --mode channels_last --threads 2

It reads requests and answers as benches/src/protocol.rs says: `case NAME`, `run K`, `memory`,
`gradients SIZE FILE`.
"""

import argparse
import json
import os
import sys
import time

# Compilers and libraries that print must not print among the answers.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
import torchvision  # noqa: E402


def say(**answer):
    print(json.dumps(answer), file=ANSWERS, flush=True)


def memory():
    """Resident bytes of this process: now, and at most since the start."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    return {name: int(fields[field].split()[0]) * 1024 for name, field in (("resident", "VmRSS"), ("peak", "VmHWM"))}


def minor_faults():
    with open("/proc/self/stat") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[7])


def prepare(name, mode):
    """The case called `name`; an object with `images` and `step()`."""
    group, _, rest = name.partition("/")
    if group == "train" and rest.startswith("synthpair-"):
        from synthpair import SynthPairStep

        return SynthPairStep(*size(rest.removeprefix("synthpair-")), mode)
    if group == "train":
        from train import Train

        return Train(*size(rest), mode)
    if group == "embed":
        from embed import Embed

        return Embed(*size(rest), mode)
    if group == "micro":
        from convolution import Convolution

        return Convolution(rest, mode)
    raise ValueError(f"no case `{name}`; its name begins with train/, embed/ or micro/")


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
            say(seconds=time.perf_counter() - start)
        say(done=int(rest), faults=minor_faults() - before)
    elif word == "memory":
        say(**memory())
    elif word == "gradients":
        from gradients import compare

        name, _, path = rest.partition(" ")
        network, _, _ = size(name)
        say(gradients=name, **compare(network, path))
    else:
        raise ValueError(f"`{line.strip()}`: expected case NAME, run K, memory or gradients SIZE FILE")
    return case


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    say(
        hello="torch",
        version=torch.__version__,
        torchvision=torchvision.__version__,
        threads=torch.get_num_threads(),
        resident=memory()["resident"],
    )
    case = None
    for line in sys.stdin:
        try:
            case = answer(line, case, args.mode)
        except Exception as error:  # an answer too: the mode is reported as failed, with its reason
            case = None
            say(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
