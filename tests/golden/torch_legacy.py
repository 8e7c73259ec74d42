"""Writes the files that torch.save wrote before version 1.6: `python3 torch_legacy.py OUT`, where OUT is tests/golden/torch_legacy.

Written with torch 2.15.0, which still writes that format when asked to, and safetensors 0.8. Beside NAME.pth stands
NAME.safetensors with the same tensors. torch names storages by their addresses, which differ from run to run. What torch itself no longer writes (parts of storages, the flag of a big-endian
machine) is pickled here by hand and read by torch.load before it is kept.
"""

import io
import os
import pickle
import struct
import sys
from collections import OrderedDict

import torch
from safetensors.torch import save_file
from torch import nn

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)


def old(name, value, **options):
    torch.save(value, os.path.join(OUT, name + ".pth"), _use_new_zipfile_serialization=False, **options)


def expect(name, tensors):
    tensors = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
    save_file(tensors, os.path.join(OUT, name + ".safetensors"))


# Types, layouts, shared storages, a parameter, a dictionary in a dictionary, an empty tensor and a scalar.
base = torch.arange(24, dtype=torch.float32) / 8
tensors = OrderedDict(
    f64=torch.tensor([1.1, -2.2], dtype=torch.float64),
    f32=base[:6].reshape(2, 3),
    f16=torch.tensor([[0.5, -65504.0]], dtype=torch.float16),
    bf16=torch.tensor([1e38, -0.25, 3.0]).bfloat16(),
    i64=torch.tensor([-(2**62), 7]),
    i32=torch.tensor([[-5]], dtype=torch.int32),
    i16=torch.tensor([300], dtype=torch.int16),
    i8=torch.tensor([-128, 127], dtype=torch.int8),
    u8=torch.tensor([255], dtype=torch.uint8),
    bool=torch.tensor([True, False, True]),
    transposed=base.reshape(4, 6).t(),
    offset=base[5:17].reshape(3, 4),
    steps=base[1::3],
    channels_last=base.reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    parameter=nn.Parameter(base[:4].clone()),
    scalar=torch.tensor(42.5),
    empty=torch.zeros(0, 3),
)
old("kinds", {"epoch": 3, "state_dict": tensors, "args": {"lr": 0.1, "note": None}})
expect("kinds", {"state_dict." + key: tensor for key, tensor in tensors.items()})

small = {"conv1.weight": torch.arange(8.0).reshape(2, 4), "bn1.bias": torch.tensor([1.0, -1.0])}
for protocol in (1, 2, 3, 4, 5):
    old(f"protocol_{protocol}", small, pickle_protocol=protocol)
expect("protocol", small)


class Storage:
    """What stands in a pickle for a storage or a part of one."""

    def __init__(self, kind, key, count, part=None):
        self.id = ("storage", kind, key, "cpu", count, part)


class Tensor:
    """A tensor of `shape` and `strides` from value `offset` of `storage` on."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, torch.Size(shape), tuple(strides), False, OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def by_hand(name, value, storages, little_endian=True):
    """`storages` maps keys to bytes and the number of values in them."""
    file = io.BytesIO()
    machine = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for head in (0x1950A86A20F9469CFC6C, 1001, machine):
        pickle.dump(head, file, protocol=2)
    Pickler(file, protocol=2).dump(value)
    pickle.dump(sorted(storages), file, protocol=2)
    for key in sorted(storages):
        values, count = storages[key]
        file.write(struct.pack("<q", count) + values)
    path = os.path.join(OUT, name + ".pth")
    with open(path, "wb") as out:
        out.write(file.getvalue())
    read = torch.load(path, weights_only=True)
    expect(name, read)
    return read


values = struct.pack("<12f", *range(12))
whole = Storage(torch.FloatStorage, "100", 12)
part = Storage(torch.FloatStorage, "100", 12, ("101", 4, 6))
read = by_hand(
    "parts",
    OrderedDict(
        whole=Tensor(whole, 0, (3, 4), (4, 1)),
        part=Tensor(part, 0, (6,), (1,)),
        within=Tensor(part, 1, (2, 2), (1, 2)),
    ),
    {"100": (values, 12)},
)
assert read["part"].tolist() == [4, 5, 6, 7, 8, 9] and read["within"].tolist() == [[5, 7], [6, 8]]
# torch writes and reads values as little-endian whatever the machine.
read = by_hand(
    "big_endian", {"w": Tensor(Storage(torch.FloatStorage, "7", 12), 2, (2,), (3,))}, {"7": (values, 12)}, little_endian=False
)
assert read["w"].tolist() == [2, 5]
