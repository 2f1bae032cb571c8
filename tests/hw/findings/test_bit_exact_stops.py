"""The bit_exact pass of hls4ml 1.3.0 stops, or gives types that nobody can use."""

from __future__ import annotations

import re

from helpers.findings import Finding


def test_padding_cropping_upsampling(finding: Finding) -> None:
    stopped = finding.run()["stopped"]
    finding.still(len(stopped) == 3)  # one that is left out here is known to hls4ml now


def test_leaky_relu(finding: Finding) -> None:
    finding.stops(TypeError, "only integer scalar arrays")


def test_wide_tables(finding: Finding) -> None:
    types = finding.run()["types"]
    finding.still({name: _fraction(text) for name, text in types.items()} == dict.fromkeys(types, 126))


def _fraction(text: str) -> int:
    width, integer = re.findall(r"\d+", text)[:2]
    return int(width) - int(integer)
