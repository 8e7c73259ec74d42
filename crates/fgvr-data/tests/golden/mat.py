"""MAT-files for the tests of fgvr_data::sets, as scipy 1.17.1 writes them: `python mat.py` beside this file.

One file of every kind that is read, plain, compressed and with the bytes of all numbers reversed (big-endian, which
scipy reads and does not write), and the lists of three sets with a handful of images.
"""

import struct
from pathlib import Path

import numpy as np
from scipy.io import loadmat, savemat

HERE = Path(__file__).parent / "mat"
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2}


def reversed_numbers(data, kind):
    width = WIDTHS[kind]
    return b"".join(data[i : i + width][::-1] for i in range(0, len(data), width))


def big_endian(data):
    """Elements with the bytes of every number reversed."""
    out, at = b"", 0
    while at < len(data):
        tag, length = struct.unpack_from("<II", data, at)
        if tag >> 16:
            kind, length = tag & 0xFFFF, tag >> 16
            out += struct.pack(">I", tag) + reversed_numbers(data[at + 4 : at + 4 + length], kind).ljust(4, b"\0")
            at += 8
            continue
        content = data[at + 8 : at + 8 + length]
        content = big_endian(content) if tag == 14 else reversed_numbers(content, tag)
        out += struct.pack(">II", tag, length) + content + b"\0" * (-length % 8)
        at += 8 + length + -length % 8
    return out


def cells(texts):
    column = np.empty((len(texts), 1), object)
    column[:, 0] = texts
    return column


def structures(fields, rows):
    array = np.empty((1, len(rows)), [(name, object) for name in fields])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row)
    return array


kinds = {f"n{i}": np.array([[1, -2 if np.dtype(kind).kind != "u" else 2, 3]], kind)
         for i, kind in enumerate("i1 u1 i2 u2 i4 u4 f4 f8 i8 u8".split())}
kinds |= {
    "text": "fgvr é",
    "nothing": np.zeros((0, 0)),
    "cells": cells(["one", np.array([[2.5]]), cells(["inner"])]),
    "people": structures(["name", "age"], [["Ada", 36], ["Emmy", 53]]),
    "complex": np.array([[1 + 2j]]),
    "rows": np.array(["ab", "cd"]),
}
savemat(HERE / "plain.mat", kinds)
savemat(HERE / "compressed.mat", kinds, do_compression=True)
plain = (HERE / "plain.mat").read_bytes()
(HERE / "big_endian.mat").write_bytes(plain[:124] + b"\x01\0MI" + big_endian(plain[128:]))
again = loadmat(HERE / "big_endian.mat")
assert all(np.array_equal(again[f"n{i}"], kinds[f"n{i}"]) for i in range(10)), again
assert again["people"][0, 1]["name"].item() == "Emmy", again

EDGES = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]
NAMES = np.array([["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]], object)


def car(i, *more):
    return [np.uint8(3), np.uint8(2), np.uint16(10 + i), np.uint16(8), *more]


lists = {
    "cars_meta": {"class_names": NAMES},
    "cars_train_annos": {"annotations": structures(
        EDGES + ["class", "fname"], [car(i, np.uint8(1 + i % 2), f"{i + 1:05}.jpg") for i in range(6)])},
    "cars_test_annos": {"annotations": structures(
        EDGES + ["fname"], [car(i, f"{i + 1:05}.jpg") for i in range(2)])},
    "cars_test_annos_withlabels": {"annotations": structures(
        EDGES + ["class", "fname"], [car(i, np.uint8(1 + i % 2), f"{i + 1:05}.jpg") for i in range(2)])},
    "cars_annos": {"class_names": NAMES, "annotations": structures(
        ["relative_im_path"] + EDGES + ["class", "test"],
        [[f"car_ims/{i + 1:06}.jpg", *car(i, np.uint8(1 + i % 2), np.uint8(i > 5))] for i in range(8)])},
    "imagelabels": {"labels": np.array([[1, 2, 1, 2, 1, 2, 1]], np.uint8)},
    "setid": {"trnid": np.array([[6, 1, 2]], np.uint16), "valid": np.array([[4, 3]], np.uint16),
              "tstid": np.array([[5, 7]], np.uint16)},
}
DOGS = ["n02085620-Chihuahua", "n02085782-Japanese_spaniel"]
for name, numbers in [("train_list", range(3)), ("test_list", range(3, 4))]:
    files = [f"{dog}/{dog[:9]}_{n}" for dog in DOGS for n in numbers]
    lists[name] = {
        "file_list": cells([f"{file}.jpg" for file in files]),
        "annotation_list": cells(files),
        "labels": np.array([[1 + DOGS.index(file.split("/")[0])] for file in files], np.uint8),
    }
for name, variables in lists.items():
    savemat(HERE / f"{name}.mat", variables, do_compression=True)
