"""Tables of a tiny network on digits: everything real, nothing big."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "limit_train": 300},
    "model": {"architecture": "mlp", "hidden": [6]},
    "training": {"method": "standard", "epochs": 3},
    "quantization": {"weight_bits": 3, "calibration_samples": 50},
    "simulation": {"verify_samples": 8, "verify_random": 4},
    "evaluation": {"check_convergence": False},
    "testbench": {"clean": 2, "adversarial": 4},
}
FGSM: dict[str, Any] = {"attack": {"kind": "fgsm"}, "epsilon_lsb": 8, "samples": 24}
TABLES: dict[str, Any] = {
    "name": "tiny_tables",
    "experiment": "experiment.yaml",
    "published": "mnist",
    "samples": 16,
    "rows": [
        {"label": "Orig."},
        # The same C++, which takes the time to compile.
        {"label": "Orig., again", "lines": ["quantized", "accelerator"], "beside": "Orig."},
    ],
    "black_box": [
        {
            "name": "apart",
            "model": {"architecture": "mlp", "hidden": [4]},
            "training": {"method": "standard", "epochs": 2},
        }
    ],
    "columns": [
        {"title": "FGSM (w)", "table": "white-box", **FGSM},
        {
            "title": "worst",
            "table": "white-box",
            "attack": {"kind": "worst-case", "attacks": [{"kind": "square", "queries": 5}]},
            "epsilon_lsb": 8,
        },
        {"title": "FGSM (w)", "table": "black-box", **FGSM},
        {"title": "Uniform", "table": "black-box", "attack": {"kind": "uniform"}, "epsilon_lsb": 8},
    ],
    "bits_study": {"rows": ["Orig."], "bits": [2], "attacks": []},
    "mapping_study": {
        "rows": ["Orig."],
        "mus": [0, 15],
        "attacks": [{"attack": {"kind": "fgsm"}, "epsilons_lsb": [8]}],
    },
}


def write(folder: Path, **changes: Any) -> Path:
    """A tables config and its experiment; the config's path."""
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    path = folder / "tables.yaml"
    path.write_text(yaml.safe_dump(TABLES | changes))
    return path
