"""The variable that compiles the kernels with sanitizers; `benchmarks/sanitize.py` runs the tests so."""

from __future__ import annotations

import pytest

from hw.simulate.bitsim.kernels.library import SANITIZE_VARIABLE, sanitizer_flags
from qmodels.errors import UserError


def test_without_it_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SANITIZE_VARIABLE, raising=False)
    assert sanitizer_flags() == []


def test_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libasan.so")
    monkeypatch.setenv(SANITIZE_VARIABLE, "address,undefined")
    assert "-fsanitize=address,undefined" in sanitizer_flags()
    monkeypatch.setenv(SANITIZE_VARIABLE, "memory")
    with pytest.raises(UserError, match="ROBUST_HLS_BITSIM_SANITIZE=memory: allowed are address, undefined"):
        sanitizer_flags()


def test_without_the_library_this_process_would_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setenv(SANITIZE_VARIABLE, "address")
    with pytest.raises(UserError, match=r"LD_PRELOAD must name libasan.so; use benchmarks/sanitize.py"):
        sanitizer_flags()
