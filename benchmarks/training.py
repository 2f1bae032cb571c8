"""Training, mapping and quantization: margins at the speed of `predict`, and what rounding does to three trainings.

MNIST is taken from $ROBUST_HLS_DATA or Keras' cache; without it the built-in digits stand in. Trained models,
checkpoints and finished parts are kept in the folder that `--study` names, and a second run goes on from there.

    python benchmarks/training.py [--quick] [--json OUT] [--only NAME ...] [--study DIR]
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Report, interleave, parser  # noqa: E402
from hw.accelerator import Accelerator  # noqa: E402
from hw.experiment.open import open_run  # noqa: E402
from hw.experiment.pipeline import run_steps  # noqa: E402
from hw.experiment.steps import STEPS  # noqa: E402
from hw.generate.hardware import HardwareConfig  # noqa: E402
from qmodels.architectures import ModelConfig, build_float  # noqa: E402
from qmodels.attacks import PGD, WorstCase  # noqa: E402
from qmodels.attacks.worst_case import NOT_FALLEN  # noqa: E402
from qmodels.data import Dataset, load_data  # noqa: E402
from qmodels.errors import RobustHlsError  # noqa: E402
from qmodels.loading import load_model  # noqa: E402
from qmodels.quantize.layerwise import LayerwiseConfig  # noqa: E402
from qmodels.quantize.model import QuantizationConfig, QuantizedModel, quantize_model  # noqa: E402
from qmodels.quantize.mulaw import MappingConfig, map_weights  # noqa: E402
from qmodels.quantize.prequantized import prequantize  # noqa: E402
from qmodels.quantize.selection import select_formats  # noqa: E402
from qmodels.runtime import copy_model  # noqa: E402
from qmodels.storage import save_model, write_json  # noqa: E402
from qmodels.training import TrainingConfig, train  # noqa: E402
from qmodels.training.aware import train_aware  # noqa: E402
from qmodels.training.margins import BATCH, measure_margins, random_directions  # noqa: E402
from qmodels.victims import AcceleratorVictim, GradientModel, KerasVictim, accuracy  # noqa: E402

MODEL = ModelConfig(architecture="cnn4", filters=(16, 32), hidden=(64,))
BITS = QuantizationConfig(weight_bits=3, activation_bits=6)
MAPPING = MappingConfig(mu=15, layers=("last-2",))
TRAININGS: dict[str, dict[str, Any]] = {
    "Orig.": {"method": "standard", "epochs": 4},
    "Adv.": {"method": "adversarial", "epochs": 6, "adversarial": {"steps": 5, "warmup_epochs": 3}},
    "F.L.": {
        "method": "feedback",
        "epochs": 4,
        "feedback": {"epochs_per_round": 2, "examples_per_original": 0.5, "round_learning_rate": 1e-3, "t_max": 0.4},
    },
}
EPSILONS = {"Orig.": 26, "Adv.": 76, "F.L.": 26}  # LSBs; where a model is neither intact nor at nought


class Study:
    """Three trainings of one network, and the folder they are kept in."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder / ("quick" if quick else "full"), quick
        self.folder.mkdir(parents=True, exist_ok=True)
        self._models: dict[str, Any] = {}

    @cached_property
    def data(self) -> Dataset:
        """MNIST or digits."""
        limit = 2000 if self.quick else None
        try:
            return load_data("mnist", seed=0, limit_train=limit)
        except RobustHlsError:
            return load_data("digits", seed=0, limit_train=limit)

    def model(self, name: str) -> Any:
        """The trained float model; trained now if it is not there."""
        if name not in self._models:
            self._models[name] = self._trained(name)
        return self._models[name]

    def kept(self, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A finished part, from the folder or computed and kept there."""
        path = self.folder / f"{key}.json"
        if not path.exists():
            write_json(path, compute())
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def scores(self, model: Any, name: str, epsilon: float) -> dict[str, float]:
        """Clean and PGD-40 accuracy on test images."""
        victim = KerasVictim(model, "quantized" if name.endswith("(Q)") else "float")
        x, y = self.data.test.take(100 if self.quick else 1000)
        attacked = PGD(steps=5 if self.quick else 40)(victim, x, y, epsilon_lsb=epsilon, seed=0)
        return {"clean": accuracy(victim, x, y), "pgd": float(attacked.accuracy), "epsilon_lsb": epsilon}

    def worst_case(self, quantized: Any, epsilon: float) -> float:
        """Share of the accelerator's first test images that every attack of the worst case leaves standing."""
        victim = AcceleratorVictim(Accelerator(quantized, HardwareConfig()), GradientModel(prequantize(quantized)))
        x, y = self.data.test.take(50 if self.quick else 500)
        found = WorstCase().evaluate(victim, x, y, epsilon_lsb=epsilon, seed=0)
        return float(np.mean(found.fell_to == NOT_FALLEN))

    def _trained(self, name: str) -> Any:
        path = self.folder / f"{name.strip('.').replace('.', '')}.keras"
        if path.exists():
            return load_model(path)
        settings = {"batch_size": 128, **TRAININGS[name]} | ({"epochs": 1} if self.quick else {})
        model = build_float(MODEL, self.data.input_shape, self.data.classes, seed=0)
        checkpoints = self.folder / f"{path.stem}.checkpoints"
        config = TrainingConfig.model_validate(settings)
        train(model, config, self.data.train, self.data.validation, seed=0, checkpoint_dir=checkpoints)
        save_model(model, path)
        return model


def margins(report: Report, study: Study) -> None:
    """Model evaluations per second of the margin search, against plain `predict` on as many images."""
    model, victim = study.model("Orig."), KerasVictim(study.model("Orig."), "float", batch_size=BATCH)
    x, y = study.data.train.take(5 if study.quick else 25)
    directions = random_directions(100, x[0].size, np.random.default_rng(0))
    scale = float(x[0].size) ** 0.5 * study.data.grid.scale

    def search() -> int:
        sizes = {"t_start": 0.1 * scale, "t_max": 0.4 * scale, "growth": 1.75, "tolerance": 0.05}
        return measure_margins(victim.logits, x, y, directions, smallest=40, **sizes).evaluations

    evaluations = search()
    images = np.resize(study.data.train.values, (evaluations, *x.shape[1:]))
    peers = {
        "margins": (search, evaluations),
        "predict": (lambda: model.predict(images, batch_size=BATCH, verbose=0), len(images)),
    }
    timed = interleave(peers, 3 if study.quick else 7)
    note = f"{timed.median('margins'):,.0f} against {timed.median('predict'):,.0f} evaluations/s"
    report.figure("margin_evals_vs_predict", timed.ratio("margins", "predict"), note)


def layerwise(report: Report, study: Study) -> None:
    """Layer-wise choice against uniform 3 bits at no more stored bits: mean ||ΔW||_2, and accuracy on test images."""

    def compare(name: str) -> dict[str, Any]:
        wanted = LayerwiseConfig(epsilon_lsb=EPSILONS[name], samples=100 if study.quick else 1000)
        config = BITS.model_copy(update={"layerwise": wanted})
        data, model = study.data, study.model(name)
        selection = select_formats(model, config, data.train.values, data.validation, seed=0)
        common = quantize_model(model, BITS, data.train.values)
        chosen = quantize_model(model, BITS, data.train.values, formats=selection.formats)
        scores = {
            label: study.scores(prequantize(quantized.model), "(Q)", EPSILONS[name])
            | {"worst_case": study.worst_case(quantized.model, EPSILONS[name])}
            | cost_of(quantized)
            for label, quantized in (("uniform", common), ("layerwise", chosen))
        }
        return {"selection": selection.as_json(), **scores}

    reductions = {}
    for name in TRAININGS:
        found = study.kept(f"layerwise-{name}", lambda name=name: compare(name))
        selection = found["selection"]
        chosen = selection["candidates"][selection["chosen"]]
        reductions[name] = 1 - chosen["mean_delta_w"] / selection["common"]["mean_delta_w"]
        report.details[f"layerwise {name}"] = found
        for label in ("uniform", "layerwise"):
            print(f"  {name:6s}{label:10s}", json.dumps(found[label]), flush=True)
    note = "least of " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in reductions.items())
    report.figure("layerwise_dw2_reduction", min(reductions.values()), note)


def mapping(report: Report, study: Study) -> None:
    """Orig., Adv., F.L., each with and without +µ, float and 3-bit (Q): clean and PGD on test images."""

    def row(name: str, mapped: bool) -> dict[str, Any]:
        model = map_weights(study.model(name), MAPPING)[0] if mapped else study.model(name)
        quantized = prequantize(quantize_model(model, BITS, study.data.train.values).model)
        return {
            label: study.scores(victim, label, epsilon) | {"model": name, "mapped": mapped}
            for epsilon in (26, 76)
            for label, victim in ((f"{epsilon}", model), (f"{epsilon} (Q)", quantized))
        }

    for name in TRAININGS:
        for mapped in (False, True):
            label = f"{name}+mu" if mapped else name
            found = study.kept(f"mapping-{label}", lambda name=name, mapped=mapped: row(name, mapped))
            report.details[f"mapping {label}"] = found
            for key, scores in found.items():
                print(f"  {label:10s}ε {key:8s} clean {scores['clean']:.3f}  PGD {scores['pgd']:.3f}", flush=True)


def codebook(report: Report, study: Study) -> None:
    """µ-law codebook against uniform at 3 and 4 bits: stored bits, EBOPs, accuracy on test images."""

    def row(name: str, settings: dict[str, Any]) -> dict[str, Any]:
        config = QuantizationConfig.model_validate(BITS.model_dump() | settings)
        quantized = quantize_model(study.model(name), config, study.data.train.values)
        return study.scores(prequantize(quantized.model), "(Q)", EPSILONS[name]) | cost_of(quantized)

    for name in TRAININGS:
        for bits in (3, 4):
            for method, mu in (("uniform", 0), ("codebook", 0), ("codebook", 3), ("codebook", 15)):
                settings = {"weight_bits": bits, "method": method, "codebook": {"mu": mu}}
                label = f"{name}-{bits}-{method}" + (f"-mu{mu}" if method == "codebook" else "")
                found = study.kept(f"codebook-{label}", lambda n=name, s=settings: row(n, s))
                report.details[f"codebook {label}"] = found
                print(f"  {label:24s}", json.dumps(found), flush=True)


def aware(report: Report, study: Study) -> None:
    """Quantization-aware against post-training at 2, 3 and 4 bits, on test images."""

    def row(name: str, bits: int) -> dict[str, Any]:
        config, epsilon = BITS.model_copy(update={"weight_bits": bits}), EPSILONS[name]
        model, data = study.model(name), study.data
        after = prequantize(quantize_model(model, config, data.train.values).model)
        latent = copy_model(model)
        phase = {"quantization_aware": {"epochs": 1 if study.quick else 2}}
        training = TrainingConfig.model_validate({"batch_size": 128, **TRAININGS[name], **phase})
        checkpoints = study.folder / f"aware-{name.strip('.').replace('.', '')}-{bits}.checkpoints"
        _, formats = train_aware(
            latent, training, config, MappingConfig(), data.train, data.validation, seed=0, checkpoint_dir=checkpoints
        )
        during = prequantize(quantize_model(latent, config, data.train.values, formats=formats).model)
        victims = {"post-training": after, "quantization-aware": during}
        return {label: study.scores(victim, "(Q)", epsilon) for label, victim in victims.items()}

    for name in ("Orig.", "Adv."):
        for bits in (2, 3, 4):
            found = study.kept(f"aware-{name}-{bits}", lambda name=name, bits=bits: row(name, bits))
            report.details[f"aware {name} {bits} bits"] = found
            for label, scores in found.items():
                print(
                    f"  {name:6s}{bits} bits {label:20s}clean {scores['clean']:.3f}  "
                    f"PGD {scores['pgd']:.3f} at {scores['epsilon_lsb']:g} LSB",
                    flush=True,
                )


def robust(report: Report, study: Study) -> None:
    """The recipe for a robust 3-bit accelerator, as `robust-hls run` runs it; a finished run is only read."""
    folder = study.folder / "mnist_robust"
    settings = {"evaluation.samples": 50, "data.limit_train": 1000} if study.quick else {}
    run = open_run(ROOT / "configs" / "mnist_robust.yaml", settings, out=folder, resume=True)
    with run.folder.lock():
        run_steps(run, STEPS, lambda line: print(f"  {line}", flush=True))
    results = json.loads((folder / "results.json").read_text())
    rows = [row for row in results["rows"] if row["victim"] == "bitsim"]
    clean = next(row for row in rows if row["attack"] == "clean")
    worst = next(item for item in results["worst_case"] if item["victim"] == "bitsim" and item["epsilon_lsb"] == 76)
    flags = sorted({flag for row in rows for flag in row["flags"]})
    report.figure("robust3bit_clean", clean["accuracy"], f"n = {clean['n']}")
    report.figure("robust3bit_worst_case", worst["accuracy"], "all attacks and transfers, image by image, 76 LSB")
    report.figure("robust3bit_flags", len(flags), ", ".join(flags) or "none")


def cost_of(quantized: QuantizedModel) -> dict[str, int]:
    """Stored bits of the kernels, and the EBOPs of the accelerator."""
    cost = Accelerator(quantized.model, HardwareConfig(io_type="io_stream")).cost
    return {"stored_bits": sum(item.stored_bits for item in quantized.formats), "ebops": cost.total("ebops")}


PARTS = {
    "margins": margins,
    "layerwise": layerwise,
    "mapping": mapping,
    "codebook": codebook,
    "aware": aware,
    "robust": robust,
}


def main() -> None:
    """Measure everything, or what `--only` names."""
    arguments = parser(__doc__, PARTS)
    arguments.add_argument("--study", type=Path, default=ROOT / "hls_projects" / "training_study", metavar="DIR")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    report, study = Report(), Study(options.study, options.quick)
    for name in options.only:
        PARTS[name](report, study)
    report.write(options.json)


if __name__ == "__main__":
    main()
