"""Mutants of values, forms and saved models against what reads them, each in its own process.

``python -m tests.security.mutations.decoders --cases 100000`` runs so many against each; a process
that a decoder ends, or that needs more memory than it is given, is a finding like any other.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import random
import resource
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

import skipper
from skipper.values.builtin import decoded
from skipper.values.envelope import Envelope, Part, pack, unpack
from skipper.values.opening import NO_PLACES, OpenParts, PartContent
from skipper_arrays import NPY, RAW, ArrayType
from skipper_images import ImageType
from skipper_tables import ARROW, CSV, PARQUET, ArrowType
from tests.security.mutations import forms, models
from tests.security.mutations.findings import Findings

MEMORY = 6 << 30
"""Bytes of address space that a decoder's process has; Arrow alone sets aside one or two GiB."""
PIECE = 10_000
Read = Callable[[bytes], object]


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _picture(format_: str, mode: str = "RGB") -> bytes:
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(stream, format_)
    return stream.getvalue()


_TABLE = pa.table({"name": ["a", "b", None], "x": [0.1, 2.5, -3.0], "many": [[1], [], [2, 3]]})


def _arrow(compression: str | None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, _TABLE.schema, options=options) as writer:
        writer.write_table(_TABLE)
    return bytes(sink.getvalue())


def _parquet(compression: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_TABLE, sink, compression=compression)
    return sink.getvalue()


def _reading(kind: skipper.ValueType, media_type: str) -> Read:
    def read(data: bytes) -> object:
        part = Part(media_type=media_type, size=len(data), data=data)
        return kind.accepted(kind.read(PartContent(part, OpenParts([part], NO_PLACES))))

    return read


def _samples() -> dict[str, tuple[Read, list[bytes]]]:
    """Each decoder, and what is sound to it."""
    array, image, table = ArrayType(skipper.Array()), ImageType(skipper.Image()), ArrowType()
    raw = b"".join(bytes(each) for each in array.write(np.arange(6.0), RAW).buffers)
    pictures = {f.lower(): _picture(f) for f in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")}
    envelope = Envelope(json=b'{"x":1}', parts=(Part(media_type="a/b", size=3, data=b"abc"),))
    return {
        NPY: (
            _reading(array, NPY),
            [_npy(np.arange(6.0)), _npy(np.zeros((2, 0), "?")), _npy(np.int8(3))],
        ),
        RAW: (_reading(array, RAW), [raw]),
        **{
            f"image/{name}": (_reading(image, f"image/{name}"), [data])
            for name, data in pictures.items()
        },
        ARROW: (_reading(table, ARROW), [_arrow(None), _arrow("zstd"), _arrow("lz4")]),
        PARQUET: (_reading(table, PARQUET), [_parquet("snappy"), _parquet("zstd")]),
        CSV: (_reading(table, CSV), [b'a,b\n1,x\n2,"y, z"\n', b"a\n0.5\n\n"]),
        "array of JSON": (
            lambda data: array.from_json(json.loads(data)),
            [b"[[1,2.5],[null,-3]]", b"true", b"[]"],
        ),
        "table of JSON": (
            lambda data: table.from_json(json.loads(data)),
            [b'[{"a":1,"b":"x"},{"a":null}]'],
        ),
        "base64": (
            lambda data: decoded(data.decode("utf-8", "replace")),
            [base64.b64encode(bytes(range(40)))],
        ),
        "envelope": (unpack, [pack(envelope)]),
        "form": (forms.read, forms.SAMPLES),
        **models.samples(),
    }


SAMPLES = _samples()
NAMES = tuple(SAMPLES)


def mutant(rng: random.Random, sound: bytes) -> bytes:
    """``sound`` with a few bytes changed, left out, doubled or put in."""
    data = bytearray(sound)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case 2:
                del data[at : at + rng.randrange(1, 9)]
            case 3:
                data[at:at] = data[max(0, at - rng.randrange(1, 32)) : at]
            case 4:
                number = rng.choice((0, 1, -1, 1 << 31, 1 << 40, (1 << 63) - 1)) & ((1 << 64) - 1)
                data[at : at + 8] = number.to_bytes(8, "little")
            case _:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.05 else data)


def attacked(name: str, seed: int, cases: int) -> Findings:
    """What comes of so many mutants for one decoder, in this process."""
    warnings.simplefilter("ignore")  # libraries tell what they think of such files
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    read, sound = SAMPLES[name]
    rng, findings = random.Random(f"{name} {seed}"), Findings(cases=cases)
    for _ in range(cases):
        case = mutant(rng, rng.choice(sound))
        try:
            read(case)
        except ValueError:  # json's and pyarrow's own among them
            findings.answers["refused"] += 1
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            findings.is_wrong(type(error).__name__, case, error)
        else:
            findings.answers["read"] += 1
    return findings


def campaign(names: Iterable[str], cases: int, seed: int, processes: int) -> dict[str, Findings]:
    """So many mutants for each decoder, a piece at a time in a process of its own."""
    found = {}
    for name in names:
        found[name] = Findings()
        starts = range(0, cases, PIECE)
        spawning = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, spawning, max_tasks_per_child=1) as pool:
            pieces = [
                pool.submit(attacked, name, seed + at, min(PIECE, cases - at)) for at in starts
            ]
            for piece in pieces:
                try:
                    found[name] += piece.result()
                except BrokenProcessPool:
                    found[name].is_wrong("a process that ended", name.encode(), f"seed {seed}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security.mutations.decoders")
    parser.add_argument("--cases", type=int, default=100_000, help="for each decoder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    found = campaign(arguments.only, arguments.cases, arguments.seed, arguments.processes)
    for name, findings in found.items():
        print(f"{name}: {findings.cases} cases, {dict(findings.answers)}, {dict(findings.wrong)}")
        for text in findings.shown[:3]:
            print(f"    {text[:500]}")
    return 1 if any(findings.wrong for findings in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
