"""Float32 matrix products of a CPU by the faster of torch's two libraries, which torch by itself leaves aside.

torch multiplies float32 matrices with MKL, which on processors of other makers than Intel's uses half of the vector
width that AVX-512 has. oneDNN uses all of it, and torch asks it wherever it is allowed to round the factors to bfloat16
first. It does round them only on processors with AMX; on the others with AVX-512 and its bfloat16 operations the
products are float32 as ever and take half of the time. So the permission is given there, once a product has shown it.
"""

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

_MATMUL: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_LOCK, _FOUND = Lock(), list[str]()
"""The setting as it was before anybody changed it, once for each who has it changed now."""
EXACT = 1e-5
"""Largest error of the trial, as a share of the largest entry: float32 has under 1e-6, bfloat16 above 1e-3."""


@contextmanager
def quick_products() -> Iterator[None]:
    """Float32 products through oneDNN for a while, where it computes them in float32 and is the faster one."""
    if not _is_exact():
        yield
        return
    with _precision("bf16"):
        yield


def usual_products() -> AbstractContextManager[None]:
    """Float32 products through MKL again: of many small matrices that do not lie side by side, oneDNN makes copies."""
    return _precision("ieee")


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Set the number of CPU threads for a while."""
    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _precision(least: str) -> Iterator[None]:
    """A setting of the whole process: whoever leaves last, of however many threads, leaves it as the first found it."""
    with _LOCK:
        before = _MATMUL.fp32_precision
        _FOUND.append(_FOUND[0] if _FOUND else before)
        _MATMUL.fp32_precision = least
    try:
        yield
    finally:
        with _LOCK:
            first = _FOUND.pop()
            _MATMUL.fp32_precision = before if _FOUND else first


@cache
def multiplies_halves() -> bool:
    """True where this machine's GPU or processor has products in bfloat16: others take several times as long for them
    as in float32."""
    if torch.cuda.is_available():
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # type: ignore


def product_dtype(factor: Tensor) -> torch.dtype:
    """The type in which a product with this factor is computed: that of an autocast, if there is one, or its own."""
    device = factor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else factor.dtype


@cache
def _is_exact() -> bool:
    """True on CPUs with AVX-512 and its bfloat16 operations but without AMX where a trial finds float32 products."""
    cpu = torch.cpu
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        or not cpu._is_avx512_bf16_supported()
        or cpu._is_amx_tile_supported()
    ):
        return False
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 64, 64, generator=draw)
    with _precision("bf16"):
        found = a @ b
    expected = a.double() @ b.double()
    return bool((found - expected).abs().max() <= EXACT * expected.abs().max())
