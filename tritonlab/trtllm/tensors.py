"""Tensors in and out of a safetensors file, as bytes: enough to rename and to stack them, without a framework.

A safetensors file is the length of its header in 8 bytes, the header in JSON, and the tensors one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tritonlab.errors import TritonlabError

LENGTH_BYTES = 8


class Tensor(NamedTuple):
    """A tensor of a file: its data type as the header spells it, its shape, and its bytes, row after row."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor, in the order of the header; the file is read whole.

    Raises:
        TritonlabError: the file is not there, or is none of that format.
    """
    try:
        whole = Path(path).read_bytes()
        start = LENGTH_BYTES + int.from_bytes(whole[:LENGTH_BYTES], "little")
        header = json.loads(whole[LENGTH_BYTES:start])
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            found[name] = Tensor(entry["dtype"], tuple(entry["shape"]), whole[start + first : start + last])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TritonlabError(
            f"{path} cannot be read as safetensors: {type(error).__name__}: {error}.", "Copy the file again."
        ) from None
    return found


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        end = at + len(tensor.content)
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    content = b"".join(tensor.content for tensor in tensors.values())
    Path(path).write_bytes(len(text).to_bytes(LENGTH_BYTES, "little") + text + content)


def stacked(*tensors: Tensor) -> Tensor:
    """One tensor with the rows of all, in order.

    Raises:
        TritonlabError: there is none, or their rows differ in data type or length.
    """
    kinds = {(tensor.dtype, tensor.shape[1:]) for tensor in tensors}
    if len(kinds) != 1:
        raise TritonlabError(
            f"{len(tensors)} tensors cannot be stacked: their rows differ.", "Stack those of one data type and width."
        )
    [(dtype, row)] = kinds
    rows = sum(tensor.shape[0] for tensor in tensors)
    return Tensor(dtype, (rows, *row), b"".join(tensor.content for tensor in tensors))
