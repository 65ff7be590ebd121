"""Make the Python backend's stub read numpy 2 arrays.

The stub in the nvidia-pytriton 0.7.0 wheel was compiled with a pybind11 that knows numpy 1's layout of
`PyArray_Descr`, where `elsize` stands at offset 0x20. In numpy 2 it stands at 0x28, so every array arrives with
strides of zero. numpy 1 is installed where it has a build (Python 3.11 and 3.12); on Python 3.13 the five
instructions that read the field are corrected here.
"""

from __future__ import annotations

import hashlib

from tritonlab.errors import EngineError

NAME = "triton_python_backend_stub"
_READS = {  # sha256 of the stub -> file offsets of the displacement byte in the five instructions
    "7b701b4b4bc01ca7af0350eaffa4f2aed92f02b465b3494a265059e4d3ca6cf8": (
        0xA6C74, 0xA6E90, 0xA7664, 0xA78A9, 0xACA2B,
    ),
}  # fmt: skip
_NUMPY1, _NUMPY2 = 0x20, 0x28


def for_numpy(binary: bytes, major: int) -> bytes:
    """The stub's bytes for numpy `major` (1 or 2).

    Raises:
        EngineError: numpy 2 is asked for and this is not the stub whose instructions are known.
    """
    if major == 1:
        return binary
    digest = hashlib.sha256(binary).hexdigest()
    if digest not in _READS:
        raise EngineError(
            f"The Python backend's stub (sha256 {digest[:12]}…) is not the one that can be made to read numpy 2.",
            "Use Python 3.11 or 3.12 for the course, where numpy 1 is installed.",
        )
    patched = bytearray(binary)
    for offset in _READS[digest]:
        assert patched[offset] == _NUMPY1
        patched[offset] = _NUMPY2
    return bytes(patched)
