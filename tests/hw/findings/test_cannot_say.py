"""What hls4ml 1.3.0 has no words for."""

from __future__ import annotations

from helpers.findings import Finding


def test_wrap_sm(finding: Finding) -> None:
    finding.stops(KeyError, "WRSM")
