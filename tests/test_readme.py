"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.models import Toolbox

from hw.generate.convert import legacy_keras, quiet
from qmodels.attacks.base import _REGISTERED
from qmodels.storage import save_model

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.gxx
def test_the_blocks_run_one_after_another(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(toolbox.quantized.model, tmp_path / "my.keras")
    train, test = toolbox.data.train, toolbox.data.test
    np.savez("my.npz", x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)
    names = {"model": toolbox.quantized.model}
    try:
        with legacy_keras():  # a user of hls4ml has set TF_USE_LEGACY_KERAS
            exec(compile(BLOCKS[0], "README, first screen", "exec"), names)
            told = capsys.readouterr().out.splitlines()
            accelerator = names["accelerator"]
            with quiet():
                exec(compile(BLOCKS[1], "README, hls4ml", "exec"), names)
            names["accelerator"] = accelerator  # one with a model again
            exec(compile(BLOCKS[2], "README, a new attack", "exec"), names)
    finally:
        _REGISTERED.pop("shake", None)
    assert len(told) == 3 and len(BLOCKS) == 3
    for line, epsilon in zip(told, (4, 8, 16), strict=True):
        assert line.startswith(f"pgd-linf, {epsilon} steps: accuracy ")
        assert re.search(r"% \[[\d.]+%, [\d.]+%\] of 80 inputs, [\d,]+ queries, flags: .+", line)
    assert capsys.readouterr().out.startswith("shake, 16 steps: accuracy ")
