"""Golden pixels: what Pillow makes of a small file of every kind that the decoders know.

Made with pillow 13.0.0 (which brings libjpeg-turbo 3.2.0, libwebp 1.6.0), numpy 2.4.6, safetensors
0.8.0, and `cjpeg` of libjpeg-turbo 2.1.5 (Debian's libjpeg-turbo-progs):

    python tests/golden/pixels.py tests/golden/pixels.safetensors

Written are `pixels.csv`, a row a file, and the tensors, those of JPEGs to `pixels_jpeg.safetensors`: `file.NAME` is a file's bytes (B), and
`pixels.NAME` (H, W, 3) what `ImageOps.exif_transpose(Image.open(NAME)).convert("RGB")` gives.
`expect` in the table is how far a channel may be from that: 0 for exact; or `refused`, for a kind that
is known to come out wrong, and then `says` stands in the error. What Pillow itself does not read, or
reads otherwise than intended, has the picture it was made from, and `source` under `says`.
`resized.FILTER.SIZE` is `png_to_resize.png` brought to a square by each of Pillow's filters.

Bounds that are not 0: decoders of JPEG and lossy WebP may round the inverse cosine transform and
interpolate chroma in their own way; 16 bits become 8 by rounding here and by dropping the lower byte
in Pillow, which differs by 1 at most; 5 and 6 bits of a BMP become 8 by other roundings.
"""

import csv
import io
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

LOSSY = 4
# libjpeg interpolates no chroma of four columns or fewer.
NARROW = 16
ROWS = {}


def picture(width, height, channels=3):
    """Slopes and soft waves, different in each channel and at each corner; uint8 (H, W, C)."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    waves = [
        40 + 190 * x + 20 * np.sin(9 * y),
        225 - 180 * y + 20 * np.cos(7 * x),
        130 + 100 * np.sin(4 * x + 3 * y),
        30 + 200 * x * y,
    ]
    return np.stack(waves[:channels], -1).clip(0, 255).round().astype(np.uint8)


def add(name, data, expect=0, says="", pixels=None):
    assert name not in ROWS, name
    ROWS[name] = (data, expect, says, pixels)


def pillow(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert("RGB"))


# Exif, XMP


def exif(orientation, kind="H", big=True, count=1, before=True, magic=b"", tag=0x0112):
    """A TIFF block with the orientation as one of TIFF's types, between two other entries."""
    order = ">" if big else "<"
    number = {"B": 1, "b": 6, "H": 3, "h": 8, "L": 4, "l": 9, "s": 2, "f": 11, "u": 7, "I": 13, "r": 5, "R": 10, "d": 12, "Q": 16}[kind]
    if kind == "s":
        value = str(orientation).encode() + b"\0"
    elif kind == "u":
        value = bytes([orientation])
    elif kind in "rR":
        value = struct.pack(order + "2" + "Ll"[kind == "R"], orientation, 1)
    elif kind == "I":
        value = struct.pack(order + "L", orientation)
    else:
        value = struct.pack(order + kind * count, *[orientation] + [0] * (count - 1))
    rest = b""
    at = 8 + 2 + 12 * (3 if before else 1) + 4
    if len(value) > 4:
        value, rest = struct.pack(order + "L", at), value
    entry = struct.pack(order + "HHL", tag, number, count) + value.ljust(4, b"\0")
    entries = [entry]
    if before:
        entries.insert(0, struct.pack(order + "HHLHH", 0x0100, 3, 1, 7, 0))
        entries.append(struct.pack(order + "HHLHH", 0x0128, 3, 1, 2, 0))
    head = b"MM\0\x2a" if big else b"II\x2a\0"
    return magic + head + struct.pack(order + "LH", 8, len(entries)) + b"".join(entries) + bytes(4) + rest


def xmp(orientation, element=False):
    inner = f'tiff:Orientation="{orientation}"/>' if not element else f"><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>"
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description {inner}</rdf:RDF></x:xmpmeta>'.encode()


# PNG


def chunk(kind, data):
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def packed(values, bits):
    """Rows (H, W, C) of samples, each row padded to bytes."""
    rows = b""
    for row in values:
        row = row.reshape(-1).astype(np.uint32)
        if bits == 16:
            rows += b"\0" + row.astype(">u2").tobytes()
        else:
            places = ((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
            rows += b"\0" + np.packbits(places.reshape(-1)).tobytes()
    return rows


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(values, bits, colour, interlaced=False, before=(), between=(), after=(), data=None):
    """A PNG of samples (H, W, C); chunks before PLTE's place, before IDAT, after IDAT."""
    height, width, _ = values.shape
    if interlaced:
        parts = [values[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7]
        raw = b"".join(packed(part, bits) for part in parts if part.size)
    else:
        raw = packed(values, bits)
    head = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    out += b"".join(chunk(*c) for c in [*before, *between]) + chunk(b"IDAT", data or zlib.compress(raw, 9))
    return out + b"".join(chunk(*c) for c in after) + chunk(b"IEND", b"")


def pngs():
    for interlaced in (False, True):
        mark = "_interlaced" if interlaced else ""
        width, height = (11, 9) if interlaced else (7, 5)
        samples = picture(width, height, 4)
        wide = samples.astype(np.uint32) * 257 - (samples > 99) * 120  # low bytes of many values
        grey = samples[..., :1]
        for bits in (1, 2, 4, 8):
            add(f"png_grey{bits}{mark}.png", png(grey >> (8 - bits), bits, 0, interlaced))
            index = grey >> (8 - bits)
            palette = bytes(picture(2**bits, 1).reshape(-1))
            clear = bytes(range(0, 250, 25))[: 2**bits]
            plte = (b"PLTE", palette)
            add(f"png_palette{bits}{mark}.png", png(index, bits, 3, interlaced, [plte]))
            add(f"png_palette{bits}_trns{mark}.png", png(index, bits, 3, interlaced, [plte, (b"tRNS", clear)]))
        add(f"png_rgb8{mark}.png", png(samples[..., :3], 8, 2, interlaced))
        add(f"png_grey8_alpha{mark}.png", png(samples[..., 2:], 8, 4, interlaced))
        add(f"png_rgba8{mark}.png", png(samples, 8, 6, interlaced))
        add(f"png_rgb16{mark}.png", png(wide[..., :3], 16, 2, interlaced), 1)
        add(f"png_rgba16{mark}.png", png(wide, 16, 6, interlaced), 1)
        # Of 16-bit grey alone Pillow cuts off what is above 255, which leaves white.
        upper = grey.repeat(3, -1)
        add(f"png_grey16{mark}.png", png(wide[..., :1], 16, 0, interlaced), 1, "source", upper)
        add(f"png_grey16_alpha{mark}.png", png(wide[..., 2:], 16, 4, interlaced), 1)
    samples = picture(7, 5, 4)
    rgb, grey = samples[..., :3], samples[..., :1]
    trns = lambda *values: (b"tRNS", struct.pack(f">{len(values)}H", *values))
    add("png_grey8_trns.png", png(grey, 8, 0, before=[trns(int(grey[1, 1, 0]))]))
    add("png_grey2_trns.png", png(grey >> 6, 2, 0, before=[trns(1)]))
    add("png_grey16_trns.png", png(grey.astype(np.uint32) * 257, 16, 0, before=[trns(int(grey[1, 1, 0]) * 257)]), 0, "source", grey.repeat(3, -1))
    add("png_rgb8_trns.png", png(rgb, 8, 2, before=[trns(*map(int, rgb[1, 1]))]))
    add("png_rgb16_trns.png", png(rgb.astype(np.uint32) * 257, 16, 2, before=[trns(*(257 * int(v) for v in rgb[1, 1]))]), 1)
    add("png_rgb8_with_suggested_palette.png", png(rgb, 8, 2, before=[(b"PLTE", bytes(picture(3, 1).reshape(-1)))]))
    add("png_gamma.png", png(rgb, 8, 2, before=[(b"gAMA", struct.pack(">L", 100000))]))
    add("png_gamma_grey.png", png(grey, 8, 0, before=[(b"gAMA", struct.pack(">L", 22727))]))
    add("png_srgb_chrm_sbit.png", png(rgb, 8, 2, before=[(b"sRGB", b"\0"), (b"cHRM", struct.pack(">8L", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)), (b"sBIT", b"\5\6\5")]))
    add("png_background.png", png(samples, 8, 6, before=[(b"bKGD", struct.pack(">3H", 9, 200, 30))]))
    profile = b"icc\0\0" + zlib.compress(icc())
    add("png_iccp.png", png(rgb, 8, 2, before=[(b"iCCP", profile)]))
    raw = packed(rgb, 8)
    halves = zlib.compress(raw, 9)
    split = png(rgb, 8, 2, data=halves[:20], after=[(b"IDAT", halves[20:])])
    add("png_two_idat.png", split)
    # Animated: the default image is the first frame, or is none.
    actl = (b"acTL", struct.pack(">LL", 2, 0))
    fctl = lambda n, w, h, x, y: (b"fcTL", struct.pack(">5LHHBB", n, w, h, x, y, 1, 10, 0, 0))
    other = zlib.compress(packed(255 - rgb, 8), 9)
    add("png_animated.png", png(rgb, 8, 2, before=[actl, fctl(0, 7, 5, 0, 0)], after=[fctl(1, 7, 5, 0, 0), (b"fdAT", struct.pack(">L", 2) + other)]))
    actl = (b"acTL", struct.pack(">LL", 1, 0))
    add("png_animated_after_a_default_image.png", png(rgb, 8, 2, before=[actl], after=[fctl(0, 7, 5, 0, 0), (b"fdAT", struct.pack(">L", 1) + other)]))
    # Orientation.
    for orientation in range(0, 10):
        add(f"png_exif_{orientation}.png", png(rgb, 8, 2, between=[(b"eXIf", exif(orientation))]))
    add("png_exif_after_idat.png", png(rgb, 8, 2, after=[(b"eXIf", exif(6))]))
    add("png_exif_after_idat_long_little.png", png(rgb, 8, 2, after=[(b"eXIf", exif(8, "L", False))]))
    add("png_exif_with_jpegs_prefix.png", png(rgb, 8, 2, between=[(b"eXIf", exif(6, magic=b"Exif\0\0"))]))
    add("png_exif_interlaced.png", png(rgb, 8, 2, True, after=[(b"eXIf", exif(5))]))
    add("png_exif_grey16.png", png(grey.astype(np.uint32) * 257, 16, 0, between=[(b"eXIf", exif(7))]), 0, "source", grey.repeat(3, -1)[::-1, ::-1].swapaxes(0, 1))
    hexed = exif(6, magic=b"Exif\0\0").hex().encode()
    text = b"\nexif\n      %d\n" % (len(hexed) // 2) + b"\n".join(hexed[i : i + 72] for i in range(0, len(hexed), 72)) + b"\n"
    add("png_raw_profile_exif.png", png(rgb, 8, 2, between=[(b"tEXt", b"Raw profile type exif\0" + text)]))
    add("png_raw_profile_exif_deflated.png", png(rgb, 8, 2, between=[(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))]))
    key = b"XML:com.adobe.xmp\0"
    add("png_xmp.png", png(rgb, 8, 2, between=[(b"iTXt", key + b"\0\0\0\0" + xmp(6))]))
    add("png_xmp_element.png", png(rgb, 8, 2, between=[(b"iTXt", key + b"\0\0\0\0" + xmp(8, True))]))
    add("png_xmp_deflated.png", png(rgb, 8, 2, between=[(b"iTXt", key + b"\1\0\0\0" + zlib.compress(xmp(3)))]))
    add("png_xmp_after_idat.png", png(rgb, 8, 2, after=[(b"iTXt", key + b"\0\0\0\0" + xmp(6))]))
    add("png_exif_1_and_xmp_6.png", png(rgb, 8, 2, between=[(b"eXIf", exif(1)), (b"iTXt", key + b"\0\0\0\0" + xmp(6))]))
    add("png_exif_without_orientation_and_xmp_6.png", png(rgb, 8, 2, between=[(b"eXIf", exif(1, tag=0x0113)), (b"iTXt", key + b"\0\0\0\0" + xmp(6))]))


def icc():
    """A profile that exchanges red and blue, were it applied: sRGB's columns under each other's names."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)  # not the time of making
    profile[84:100] = bytes(16)
    return bytes(profile).replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


# JPEG


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def cjpeg(values, *options, scans=None, usual_tables=False):
    height, width, _ = values.shape
    script = tempfile.NamedTemporaryFile("w", suffix=".scans")
    script.write(scans or "")
    script.flush()
    more = ["-scans", script.name] if scans else []
    data = b"P6 %d %d 255\n" % (width, height) + values.tobytes()
    # Tables of their own take less room than the usual ones.
    more += [] if usual_tables or "-arithmetic" in options else ["-optimize"]
    return subprocess.run(["cjpeg", "-quality", "80", *options, *more], input=data, capture_output=True, check=True).stdout


def headers(data):
    """(marker, start, end) of the segments before the first scan's data."""
    found, at = [], 2
    while True:
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append((data[at + 1], at, end))
        if data[at + 1] == 0xDA:
            return found
        at = end


def without(data, marker):
    for found, start, end in headers(data):
        if found == marker:
            return data[:start] + data[end:]
    return data


def first(data, *parts):
    return data[:2] + b"".join(parts) + data[2:]


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def renamed(data, names):
    """Components under other names, in the frame and in the first scan."""
    out, old = bytearray(data), {}
    for marker, start, _ in headers(data):
        if marker in (0xC0, 0xC1, 0xC2):
            for i in range(data[start + 9]):
                old[data[start + 10 + 3 * i]] = names[i]
                out[start + 10 + 3 * i] = names[i]
        if marker == 0xDA:
            for i in range(data[start + 4]):
                out[start + 5 + 2 * i] = old[data[start + 5 + 2 * i]]
    return bytes(out)


def four(subsampling, **more):
    """Four components as Pillow writes them, with Adobe's marker."""
    values = picture(18, 17, 4)
    out = io.BytesIO()
    Image.fromarray(values, "CMYK").save(out, "JPEG", quality=80, subsampling=subsampling, **more)
    return out.getvalue()


def transform(data, value):
    at = data.index(b"Adobe") + 11
    return data[:at] + bytes([value]) + data[at + 1 :]


def jpegs():
    values = picture(18, 17)
    small = picture(16, 8)
    j = lambda *options, **more: cjpeg(values, *options, **more)
    # Sampling, as cjpeg writes it: luma first. The letters say how the scans go.
    for sampling in ("1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4"):
        add(f"jpeg_{sampling}.jpg", j("-sample", sampling), LOSSY)
    for sampling in ("2x1", "2x2", "4x1"):
        add(f"jpeg_{sampling}_progressive.jpg", j("-sample", sampling, "-progressive"), LOSSY)
    add("jpeg_2x2_chroma_2x1.jpg", j("-sample", "2x2,2x1,2x1"), LOSSY)
    add("jpeg_2x2_chroma_1x2_1x1.jpg", j("-sample", "2x2,1x2,1x1"), LOSSY)
    below = "luma is sampled more coarsely than chroma"
    for sampling in ("1x1,2x2,2x2", "1x1,2x1,2x1", "1x2,2x1,2x1", "2x1,4x1,4x1", "1x1,1x1,2x1"):
        name = sampling.replace(",", "_")
        add(f"jpeg_{name}.jpg", j("-sample", sampling), "refused", below)
    add("jpeg_1x1_2x2_2x2_progressive.jpg", j("-sample", "1x1,2x2,2x2", "-progressive"), "refused", below)
    add("jpeg_1x1_1x2_1x2.jpg", j("-sample", "1x1,1x2,1x2"), LOSSY)
    add("jpeg_4x1_2x2_1x1.jpg", j("-sample", "4x1,2x2,1x1"), "refused", "sampling factors 4x1, 2x2, 1x1")
    add("jpeg_3x1.jpg", j("-sample", "3x1"), "refused", "sampling factors 3x1, 1x1, 1x1")
    add("jpeg_1x4_1x2.jpg", j("-sample", "1x4,1x2,1x2"), "refused", "sampling factors 1x4, 1x2, 1x2")
    # Scans.
    apart = "0;\n1;\n2;\n"
    add("jpeg_1x1_scans_apart.jpg", j("-sample", "1x1", scans=apart), LOSSY)
    add("jpeg_2x1_scans_apart.jpg", j("-sample", "2x1", scans=apart), LOSSY)
    add("jpeg_1x1_scans_apart_restarts.jpg", j("-sample", "1x1", "-restart", "1B", scans=apart), LOSSY)
    separate = "its components lie in separate scans"
    add("jpeg_2x2_scans_apart.jpg", j("-sample", "2x2", scans=apart), "refused", separate)
    add("jpeg_1x2_scans_apart.jpg", j("-sample", "1x2", scans=apart), "refused", separate)
    add("jpeg_2x1_scans_0_12.jpg", j("-sample", "2x1", scans="0;\n1 2;\n"), LOSSY)
    add("jpeg_2x1_scans_01_2.jpg", j("-sample", "2x1", scans="0 1;\n2;\n"), "refused", separate)
    add("jpeg_1x1_scans_201.jpg", j("-sample", "1x1", scans="2;\n0;\n1;\n"), "refused", separate)
    add("jpeg_2x2_progressive_dc_apart.jpg", j("-sample", "2x2", scans="0: 0-0, 0, 0;\n1: 0-0, 0, 0;\n2: 0-0, 0, 0;\n0: 1-63, 0, 0;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;\n"), LOSSY)
    add("jpeg_2x1_progressive_dc_01_2.jpg", j("-sample", "2x1", scans="0 1: 0-0, 0, 0;\n2: 0-0, 0, 0;\n0: 1-63, 0, 0;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;\n"), LOSSY)
    whole = j("-progressive")
    scan = whole.index(b"\xff\xda", whole.index(b"\xff\xda") + 2)
    add("jpeg_progressive_first_scan_only.jpg", whole[:scan] + b"\xff\xd9", "refused", "without its last scans")
    for rows in ("1", "1B", "3B"):
        add(f"jpeg_restart_{rows}.jpg", j("-restart", rows), LOSSY)
    add("jpeg_progressive_restart_1B.jpg", j("-progressive", "-restart", "1B"), LOSSY)
    # Coding.
    add("jpeg_arithmetic.jpg", j("-arithmetic"), "refused", "arithmetic coding")
    add("jpeg_arithmetic_progressive.jpg", j("-arithmetic", "-progressive"), "refused", "arithmetic coding")
    frame = lambda data, marker: data.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    add("jpeg_extended.jpg", frame(j(), 0xC1), LOSSY)
    add("jpeg_lossless.jpg", frame(j(), 0xC3), "refused", "lossless coding")
    add("jpeg_hierarchical.jpg", frame(j(), 0xC5), "refused", "hierarchical coding")
    twelve = bytearray(frame(j(), 0xC1))
    twelve[next(s for m, s, _ in headers(twelve) if m == 0xC1) + 4] = 12
    add("jpeg_12_bit.jpg", bytes(twelve), "refused", "12 bits a sample")
    none = bytearray(j())
    at = next(s for m, s, _ in headers(none) if m == 0xC0)
    none[at + 5 : at + 7] = b"\0\0"
    add("jpeg_height_after_the_scan.jpg", bytes(none), "refused", "its height stands after the first scan")
    add("jpeg_16_bit_tables.jpg", j("-quality", "1"), LOSSY)
    add("jpeg_usual_tables.jpg", j(usual_tables=True), LOSSY)
    # Colour.
    plain, rgb = j("-sample", "1x1"), j("-rgb")
    bare = without(plain, 0xE0)
    add("jpeg_grey.jpg", j("-grayscale"), LOSSY)
    add("jpeg_grey_progressive.jpg", j("-grayscale", "-progressive"), LOSSY)
    add("jpeg_grey_2x2.jpg", j("-grayscale", "-sample", "2x2"), LOSSY)
    add("jpeg_grey_2x1_progressive.jpg", j("-grayscale", "-sample", "2x1", "-progressive"), LOSSY)
    add("jpeg_grey_adobe_0.jpg", first(without(j("-grayscale"), 0xE0), adobe(0)), LOSSY)
    grey = j("-grayscale")
    tail = next(s for m, s, _ in headers(grey) if m == 0xDA)
    add("jpeg_grey_adobe_0_after_the_frame.jpg", grey[:tail] + adobe(0) + grey[tail:], LOSSY)
    add("jpeg_no_jfif.jpg", bare, LOSSY)
    add("jpeg_no_jfif_components_0_1_2.jpg", renamed(bare, [0, 1, 2]), LOSSY)
    add("jpeg_rgb.jpg", rgb, LOSSY)
    add("jpeg_rgb_progressive.jpg", j("-rgb", "-progressive"), LOSSY)
    add("jpeg_rgb_components_1_2_3.jpg", renamed(rgb, [1, 2, 3]), LOSSY)
    add("jpeg_components_named_rgb.jpg", renamed(bare, list(b"RGB")), LOSSY)
    add("jpeg_jfif_components_named_rgb.jpg", renamed(plain, list(b"RGB")), LOSSY)
    add("jpeg_jfif_components_named_rgb_progressive.jpg", renamed_all(j("-progressive"), list(b"RGB")), LOSSY)
    for value in range(4):
        add(f"jpeg_adobe_{value}.jpg", first(bare, adobe(value)), LOSSY)
        add(f"jpeg_adobe_{value}_components_named_rgb.jpg", first(renamed(bare, list(b"RGB")), adobe(value)), LOSSY)
        add(f"jpeg_jfif_adobe_{value}.jpg", plain[:20] + adobe(value) + plain[20:], LOSSY)
        add(f"jpeg_four_adobe_{value}.jpg", transform(four(0), value), LOSSY)
    for name, sub in (("2x1", 1), ("2x2", 2)):
        add(f"jpeg_cmyk_{name}.jpg", four(sub), LOSSY)
        add(f"jpeg_ycck_{name}.jpg", transform(four(sub), 2), LOSSY)
    add("jpeg_cmyk_progressive.jpg", four(2, progressive=True), LOSSY)
    add("jpeg_cmyk_no_adobe.jpg", without(four(0), 0xEE), LOSSY)
    add("jpeg_icc.jpg", first(plain, segment(0xE2, b"ICC_PROFILE\0\1\1" + icc())), LOSSY)
    # Sizes.
    for width, height in ((1, 1), (8, 8), (9, 1), (16, 17), (17, 16), (3, 20)):
        bound = LOSSY if width > 8 else NARROW
        add(f"jpeg_{width}_by_{height}.jpg", cjpeg(picture(width, height)), bound)
    # Around the picture.
    add("jpeg_bytes_after_the_end.jpg", plain + b"bytes" * 9, LOSSY)
    add("jpeg_another_picture_after_it.jpg", plain + cjpeg(255 - values), LOSSY)
    thumbnail = cjpeg(255 - small)
    add("jpeg_thumbnail.jpg", first(plain, segment(0xE1, b"Exif\0\0" + exif(1)[:-4] + bytes(4) + thumbnail)), LOSSY)
    add("jpeg_fill_bytes.jpg", plain[:2] + b"\xff\xff\xff" + plain[2:], LOSSY)
    add("jpeg_comment.jpg", first(plain, segment(0xFE, b"a comment")), LOSSY)
    # Orientation: 16 x 8, so that nothing of the pixels depends on the turn.
    base = cjpeg(small, "-sample", "1x1")
    turned = lambda block: first(base, segment(0xE1, b"Exif\0\0" + block))
    for orientation in range(0, 10):
        add(f"jpeg_exif_{orientation}.jpg", turned(exif(orientation)), LOSSY)
    for kind, name in zip("BbHhLlIQ", ["byte", "sbyte", "short", "sshort", "long", "slong", "ifd", "long8"]):
        # Pillow takes a BYTE for a string of bytes and does not turn; it is a whole number all the same.
        for big in (True, False):
            expected = np.rot90(pillow(base), -1) if kind == "B" else None
            says = "source" if kind == "B" else ""
            order = "big" if big else "little"
            add(f"jpeg_exif_6_{name}_{order}.jpg", turned(exif(6, kind, big)), LOSSY, says, expected)
    for kind, name in zip("surRfd", ["ascii", "undefined", "rational", "srational", "float", "double"]):
        add(f"jpeg_exif_6_{name}.jpg", turned(exif(6, kind)), LOSSY)
    add("jpeg_exif_6_two_shorts.jpg", turned(exif(6, count=2)), LOSSY)
    add("jpeg_exif_6_three_longs_elsewhere.jpg", turned(exif(6, "L", count=3)), LOSSY)
    add("jpeg_exif_slong_negative.jpg", turned(exif(-6, "l")), LOSSY)
    add("jpeg_exif_long_65542.jpg", turned(exif(65542, "L")), LOSSY)
    add("jpeg_exif_twice.jpg", first(base, segment(0xE1, b"Exif\0\0" + exif(6)), segment(0xE1, b"Exif\0\0" + exif(3))), LOSSY)
    add("jpeg_exif_prefix_twice.jpg", turned(exif(6, magic=b"Exif\0\0")), LOSSY)
    add("jpeg_exif_cut.jpg", turned(exif(6)[:-10]), LOSSY)
    add("jpeg_exif_offset_beyond.jpg", turned(b"MM\0\x2a" + struct.pack(">L", 9999)), LOSSY)
    add("jpeg_exif_no_tiff.jpg", turned(b"XX\0\x2a" + exif(6)[4:]), LOSSY)
    space = b"http://ns.adobe.com/xap/1.0/\0"
    add("jpeg_xmp.jpg", first(base, segment(0xE1, space + xmp(6))), LOSSY)
    add("jpeg_xmp_element.jpg", first(base, segment(0xE1, space + xmp(8, True))), LOSSY)
    add("jpeg_exif_3_and_xmp_6.jpg", first(base, segment(0xE1, b"Exif\0\0" + exif(3)), segment(0xE1, space + xmp(6))), LOSSY)
    add("jpeg_exif_without_orientation_and_xmp_6.jpg", first(base, segment(0xE1, b"Exif\0\0" + exif(3, tag=0x0113)), segment(0xE1, space + xmp(6))), LOSSY)
    add("jpeg_exif_6_progressive.jpg", first(cjpeg(small, "-progressive", "-sample", "1x1"), segment(0xE1, b"Exif\0\0" + exif(6))), LOSSY)


def renamed_all(data, names):
    """As `renamed`, in every scan: component 1, 2, 3 of cjpeg."""
    out = bytearray(renamed(data, names))
    at = data.index(b"\xff\xda") + 2
    while (at := data.find(b"\xff\xda", at)) >= 0:
        for i in range(data[at + 4]):
            out[at + 5 + 2 * i] = names[data[at + 5 + 2 * i] - 1]
        at += 2
    return bytes(out)


# WebP


def webp(image, **options):
    out = io.BytesIO()
    image.save(out, "WEBP", **options)
    return out.getvalue()


def riff(*chunks):
    body = b"WEBP"
    for kind, data in chunks:
        body += kind + struct.pack("<L", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<L", len(body)) + body


def parts(data):
    at, found = 12, []
    while at < len(data):
        size = struct.unpack("<L", data[at + 4 : at + 8])[0]
        found.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def extended(width, height, flags):
    return (b"VP8X", bytes([flags, 0, 0, 0]) + struct.pack("<L", width - 1)[:3] + struct.pack("<L", height - 1)[:3])


def webps():
    values = picture(13, 9, 4)
    rgb, rgba = Image.fromarray(values[..., :3]), Image.fromarray(values)
    lossless = dict(lossless=True, exact=True)
    add("webp_lossless.webp", webp(rgb, **lossless))
    add("webp_lossless_alpha.webp", webp(rgba, **lossless))
    two = np.where(values[..., :1] > 128, 250, 30).astype(np.uint8).repeat(3, -1)
    add("webp_lossless_palette.webp", webp(Image.fromarray(two), **lossless))
    large = Image.fromarray(picture(33, 18))
    clear = Image.fromarray(picture(33, 18, 4))
    for quality in (20, 90):
        add(f"webp_lossy_{quality}.webp", webp(large, quality=quality), LOSSY)
    add("webp_lossy_alpha.webp", webp(clear, quality=90), LOSSY)
    for width, height in ((1, 1), (16, 17), (2, 15)):
        add(f"webp_lossy_{width}_by_{height}.webp", webp(Image.fromarray(picture(width, height)), quality=90), LOSSY)
    add("webp_icc.webp", webp(rgb, icc_profile=icc(), **lossless))
    for orientation in (1, 3, 6, 7):
        add(f"webp_exif_{orientation}.webp", webp(rgb, exif=exif(orientation), **lossless))
    add("webp_exif_8_long_little.webp", webp(rgb, exif=exif(8, "L", False), **lossless))
    add("webp_exif_6_jpegs_prefix.webp", webp(rgb, exif=b"Exif\0\0" + exif(6), **lossless))
    add("webp_exif_6_lossy.webp", webp(large, exif=exif(6), quality=90), LOSSY)
    add("webp_xmp_6.webp", webp(rgb, xmp=xmp(6), **lossless))
    add("webp_exif_without_orientation_and_xmp_6.webp", webp(rgb, exif=exif(1, tag=0x0113), xmp=xmp(6), **lossless))
    image = [p for p in parts(webp(rgb, **lossless)) if p[0] == b"VP8L"]
    add("webp_exif_6_without_its_flag.webp", riff(extended(13, 9, 0), *image, (b"EXIF", exif(6))))
    add("webp_simple_with_exif_after_it.webp", riff(*image, (b"EXIF", exif(6))))
    other = Image.fromarray(255 - values[..., :3])
    add("webp_animated.webp", webp(rgb, save_all=True, append_images=[other], duration=100, **lossless))
    add("webp_animated_alpha.webp", webp(rgba, save_all=True, append_images=[other.convert("RGBA")], duration=100, **lossless))
    add("webp_animated_lossy.webp", webp(large, save_all=True, append_images=[large.rotate(180)], duration=100, quality=90), LOSSY)
    add("webp_animated_exif_6.webp", webp(rgb, save_all=True, append_images=[other], duration=100, exif=exif(6), **lossless))
    # A first frame smaller than its canvas, over a background of its own.
    for mark, flags, background in (("", 2, b"\xff\xff\xff\xff"), ("_blue", 2, b"\xf0\x20\x10\xff"), ("_clear", 0x12, b"\0\0\0\0")):
        head = extended(17, 15, flags)
        anim = (b"ANIM", background + b"\0\0")
        size = struct.pack("<L", 12)[:3] + struct.pack("<L", 8)[:3]
        frame = lambda x, y: (b"ANMF", struct.pack("<L", x // 2)[:3] + struct.pack("<L", y // 2)[:3] + size + b"\x64\0\0\2" + riff(*image)[12:])
        add(f"webp_animated_frame_within_canvas{mark}.webp", riff(head, anim, frame(2, 4), frame(0, 0)))


# BMP


def rows(values, bits, top_down=False):
    out = []
    for row in values:
        if bits <= 8:
            places = ((row[:, None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1).reshape(-1)
            data = np.packbits(places).tobytes()
        else:
            data = row.tobytes()
        out.append(data + b"\0" * (-len(data) % 4))
    return b"".join(out if top_down else out[::-1])


def bmp(width, height, bits, data, compression=0, palette=b"", masks=b"", header=40, gap=0, colours=None, planes=1):
    if header == 12:
        info = struct.pack("<LHHHH", 12, width, height, planes, bits)
    else:
        used = len(palette) // 4 if colours is None else colours
        info = struct.pack("<LllHHLLllLL", header, width, height, planes, bits, compression, len(data), 2835, 2835, used, 0)
        if header == 16:
            info = info[:16]
        else:
            if header > 40:
                info += masks.ljust(16, b"\0") if header >= 56 else masks[:12]
                masks = b""
            if header >= 108:
                info += b"BGRs" + bytes(48)
            info = info.ljust(header, b"\0")
    start = 14 + len(info) + len(masks) + len(palette) + gap
    head = b"BM" + struct.pack("<LHHL", start + len(data), 0, 0, start)
    return head + info + masks + palette + bytes(gap) + data


def bmps():
    width, height = 7, 5
    values = picture(width, height, 4)
    rgb = values[..., :3]
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    for bits in (1, 4, 8):
        index = values[..., 0] >> (8 - bits)
        colours = picture(2**bits, 1)[0]
        quads = b"".join(bytes(c[::-1]) + b"\0" for c in colours)
        triples = b"".join(bytes(c[::-1]) for c in colours)
        data = rows(index, bits)
        add(f"bmp_{bits}.bmp", bmp(width, height, bits, data, palette=quads))
        add(f"bmp_{bits}_all_colours_by_0.bmp", bmp(width, height, bits, data, palette=quads, colours=0))
        add(f"bmp_{bits}_top_down.bmp", bmp(width, -height, bits, rows(index, bits, True), palette=quads))
        add(f"bmp_{bits}_os2.bmp", bmp(width, height, bits, data, palette=triples, header=12))
        add(f"bmp_{bits}_v5.bmp", bmp(width, height, bits, data, palette=quads, header=124))
    index = values[..., 0] >> 4
    few = b"".join(bytes(c[::-1]) + b"\0" for c in picture(16, 1)[0])
    add("bmp_8_of_16_colours.bmp", bmp(width, height, 8, rows(index, 8), palette=few))
    grey = b"".join(bytes([i, i, i, 0]) for i in range(256))
    add("bmp_8_grey.bmp", bmp(width, height, 8, rows(values[..., 0], 8), palette=grey))
    add("bmp_1_white_first.bmp", bmp(width, height, 1, rows(values[..., 0] >> 7, 1), palette=b"\xff\xff\xff\0\0\0\0\0"))
    # Runs: a run a pixel pair, a literal of three, the end of a line.
    quads = b"".join(bytes(c[::-1]) + b"\0" for c in picture(256, 1)[0])
    lines = b""
    for row in values[::-1, :, 0]:
        lines += bytes([2, row[0]]) + bytes([0, 3]) + bytes(row[2:5]) + b"\0" + bytes([2, row[6]]) + b"\0\0"
    add("bmp_rle8.bmp", bmp(width, height, 8, lines + b"\0\1", 1, quads))
    jump = bytes([3, 200]) + b"\0\2\2\1" + bytes([2, 90]) + b"\0\0" + bytes([7, 40]) + b"\0\1"
    # Where nothing is drawn is black. Pillow has not enough data here.
    colours = picture(256, 1)[0]
    drawn = np.zeros((height, width, 3), np.uint8)
    drawn[4, :3], drawn[3, 5:7], drawn[2] = colours[200], colours[90], colours[40]
    add("bmp_rle8_with_jumps.bmp", bmp(width, height, 8, jump, 1, quads), 0, "source", drawn)
    drawn = np.zeros((height, width, 3), np.uint8)
    drawn[4], drawn[3, :3] = colours[40], colours[200]
    early = bytes([7, 40]) + b"\0\0" + bytes([3, 200]) + b"\0\1"
    add("bmp_rle8_ends_early.bmp", bmp(width, height, 8, early, 1, quads), 0, "source", drawn)
    lines = b""
    for row in index[::-1]:
        lines += bytes([3, row[0] << 4 | row[1]]) + bytes([0, 4, row[3] << 4 | row[4], row[5] << 4 | row[6]]) + b"\0\0"
    add("bmp_rle4.bmp", bmp(width, height, 4, lines + b"\0\1", 2, few))
    # True colour.
    add("bmp_24.bmp", bmp(width, height, 24, rows(bgr, 24)))
    add("bmp_24_top_down.bmp", bmp(width, -height, 24, rows(bgr, 24, True)))
    add("bmp_24_os2.bmp", bmp(width, height, 24, rows(bgr, 24), header=12))
    add("bmp_24_os2_v2.bmp", bmp(width, height, 24, rows(bgr, 24), header=64))
    add("bmp_24_os2_v2_short.bmp", bmp(width, height, 24, rows(bgr, 24), header=16), 0, "source", rgb)
    add("bmp_24_gap.bmp", bmp(width, height, 24, rows(bgr, 24), gap=12))
    five = rgb.astype(np.uint16) >> 3
    six = rgb[..., 1].astype(np.uint16) >> 2
    r555 = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    r565 = (five[..., 0] << 11 | six << 5 | five[..., 2]).astype("<u2")
    masks = lambda *m: struct.pack(f"<{len(m)}L", *m)
    add("bmp_16_555.bmp", bmp(width, height, 16, rows(r555, 16)), 1)
    add("bmp_16_555_masks.bmp", bmp(width, height, 16, rows(r555, 16), 3, masks=masks(0x7C00, 0x3E0, 0x1F)), 1)
    add("bmp_16_565.bmp", bmp(width, height, 16, rows(r565, 16), 3, masks=masks(0xF800, 0x7E0, 0x1F)), 1)
    add("bmp_16_565_v5.bmp", bmp(width, height, 16, rows(r565, 16), 3, masks=masks(0xF800, 0x7E0, 0x1F), header=124), 1)
    bgra = np.ascontiguousarray(values[..., [2, 1, 0, 3]])
    rgba = np.ascontiguousarray(values)
    four = lambda v: rows(v, 32)
    add("bmp_32.bmp", bmp(width, height, 32, four(bgra)))
    add("bmp_32_alpha_0.bmp", bmp(width, height, 32, four(bgra * np.uint8([1, 1, 1, 0]))))
    add("bmp_32_top_down.bmp", bmp(width, -height, 32, rows(bgra, 32, True)))
    add("bmp_32_masks.bmp", bmp(width, height, 32, four(bgra), 3, masks=masks(0xFF0000, 0xFF00, 0xFF)))
    add("bmp_32_masks_rgb.bmp", bmp(width, height, 32, four(rgba), 3, masks=masks(0xFF, 0xFF00, 0xFF0000)), 0, "source", rgb)
    for header in (52, 56, 108, 124):
        add(f"bmp_32_header_{header}.bmp", bmp(width, height, 32, four(bgra), 3, masks=masks(0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=header))
    ten = sum(values[..., i].astype(np.uint32) << (2 + 10 * (2 - i)) for i in range(3)).astype("<u4")
    add("bmp_32_masks_10_bits.bmp", bmp(width, height, 32, rows(ten, 32), 3, masks=masks(0x3FF << 20, 0x3FF << 10, 0x3FF)), 1, "source", rgb)


def main(out):
    pngs()
    jpegs()
    webps()
    bmps()
    tensors = {}
    # Sizes down and up by each of Pillow's filters.
    source = Image.fromarray(picture(18, 17))
    add("png_to_resize.png", png(picture(18, 17), 8, 2))
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        for size in (7, 19):
            resized = source.resize((size, size), getattr(Image.Resampling, name.upper()))
            tensors[f"resized.{name}.{size}"] = np.asarray(resized)
    table = io.StringIO()
    write = csv.writer(table, lineterminator="\n")
    write.writerow(["file", "expect", "says"])
    for name, (data, expect, says, pixels) in ROWS.items():
        tensors[f"file.{name}"] = np.frombuffer(data, np.uint8)
        if expect != "refused":
            pixels = pillow(data) if pixels is None else pixels
            tensors[f"pixels.{name}"] = np.ascontiguousarray(pixels)
        write.writerow([name, expect, says])
    Path(out).with_suffix(".csv").write_text(table.getvalue())
    # Two files, neither of them large.
    jpeg = {name: tensor for name, tensor in tensors.items() if ".jpeg_" in name}
    save_file({name: tensor for name, tensor in tensors.items() if name not in jpeg}, out)
    save_file(jpeg, Path(out).with_name("pixels_jpeg.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1])
