"""Tensors as bytes: what is written is read again, and so is what the library of the format wrote."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tritonlab import tutor_model
from tritonlab.errors import TritonlabError
from tritonlab.trtllm.tensors import Tensor, read_tensors, stacked, write_tensors

QUERY = Tensor("BF16", (2, 3), bytes(range(12)))
KEY = Tensor("BF16", (1, 3), bytes(range(12, 18)))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "rank0.safetensors"
    tensors = {"b": QUERY, "a": KEY, "none": Tensor("F32", (0,), b"")}
    write_tensors(file, tensors)
    assert read_tensors(file) == tensors
    assert list(read_tensors(file)) == ["b", "a", "none"]


def test_a_file_of_the_formats_library_is_read() -> None:
    tensors = read_tensors(Path(tutor_model(), "model.safetensors"))
    assert len(tensors) == 38
    for tensor in tensors.values():
        assert len(tensor.content) == 2 * math.prod(tensor.shape)


def test_rows_are_stacked_in_order() -> None:
    assert stacked(QUERY, KEY) == Tensor("BF16", (3, 3), bytes(range(18)))
    for wrong in ((), (QUERY, KEY._replace(dtype="F16")), (QUERY, Tensor("BF16", (3, 1), bytes(6)))):
        with pytest.raises(TritonlabError, match="cannot be stacked"):
            stacked(*wrong)


@pytest.mark.parametrize("content", [b"", b"no such file", b"\x02\0\0\0\0\0\0\0[]", b'\x07\0\0\0\0\0\0\0{"a":1}'])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(TritonlabError, match="cannot be read"):
        read_tensors(file)
    file.write_bytes(content)
    with pytest.raises(TritonlabError, match="cannot be read"):
        read_tensors(file)
