"""The C simulation of hls4ml 1.3.0 stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.findings import Finding


@pytest.mark.slow
@pytest.mark.gxx
def test_assertion_in_assignment(finding: Finding, tmp_path: Path) -> None:
    status, told = finding.status(tmp_path)
    finding.still(status != 0 and "Attempting to read bit beyond MSB" in told)


def test_catapult_static_reference(finding: Finding) -> None:
    finding.still("static auto& layer2_out = x;" in finding.run()["source"])
