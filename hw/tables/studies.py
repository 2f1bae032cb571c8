"""What the figures need beyond the rows: the same trained models at other numbers of bits, and mapped by other µ.

Every attack on every variant is kept in `OUT/studies/` under the digest of all it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hw.experiment.evaluation_config import AttackPlan
from hw.experiment.run import Run
from hw.tables.config import BitsStudy, MappingStudy, TransferStudy
from qmodels.attacks import Attack, AttackResult
from qmodels.attacks.transfer import judged
from qmodels.digest import digest_of
from qmodels.errors import UserError
from qmodels.progress import progress_bar
from qmodels.quantize.model import quantize_model
from qmodels.quantize.mulaw import MappingConfig, map_weights
from qmodels.quantize.prequantized import prequantize
from qmodels.shapes import Count, Part, Share, Strength, read_stored
from qmodels.statistics import wilson
from qmodels.storage import finite_or_none, write_json
from qmodels.victims import KerasVictim, accuracy

Record = dict[str, Any]


class TransferPart(Part):
    """A file of `studies/`: one cell of the transfer matrix."""

    accuracy: Share
    n: Count
    ci95: list[Share]


class StudyPart(Part):
    """A file of `studies/`."""

    attack: str
    accuracy: Share
    n: Count
    epsilon_lsb: Strength | None = None
    accuracy_on_unmapped_models_examples: Share | None = None


@dataclass
class Variant:
    """One changed model of a row, built when something about it is not known yet."""

    run: Run
    label: str
    settings: Record  # what makes it differ: of the key, and in the record
    build: Callable[[], KerasVictim]
    #: The unchanged model: its examples are tried on this one as well.
    original: Variant | None = None
    form: str = ""  # of the row's network
    _examples: dict[tuple[Attack, float, int], AttackResult] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Row and form."""
        return f"{self.label} {self.form}".strip()

    @cached_property
    def victim(self) -> KerasVictim:
        """The model as a victim."""
        return self.build()

    def attacked(self, attack: Attack, epsilon: float, samples: int) -> AttackResult:
        """The examples of one attack on the first test images; made once."""
        key = (attack, epsilon, samples)
        if key not in self._examples:
            x, y = self.run.data.test.take(samples)
            seed = self.run.config.seed
            self._examples[key] = attack(self.victim, x, y, epsilon_lsb=epsilon, seed=seed, for_others=True)
        return self._examples[key]


class Studies:
    """Scores of variants, from the folder or computed and kept there."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.folder, self.samples = folder, samples

    def bits(self, study: BitsStudy, runs: Mapping[str, Run]) -> list[Record]:
        """Clean and attacked accuracy of rows' models, rounded after training to every number of bits."""
        variants = [_rounded(runs[label], label, bits) for label in study.rows for bits in study.bits]
        return self._all("accuracy over bits", variants, study.attacks)

    def mapping(self, study: MappingStudy, runs: Mapping[str, Run]) -> list[Record]:
        """The same of float models mapped by every µ, and how they stand examples made on the unmapped model."""
        variants = []
        for label in study.rows:
            original = _mapped(runs[label], label, 0.0, study.layers, None)
            variants += [original]
            variants += [_mapped(runs[label], label, mu, study.layers, original) for mu in study.mus if mu > 0]
        return self._all("µ-law mapping", variants, study.attacks)

    def transfer(self, study: TransferStudy, runs: Mapping[str, Run]) -> list[Record]:
        """Accuracy of every form of the rows' undefended networks on examples made on every form."""
        forms = [form for label in study.rows for form in _forms(runs[label], label)]
        todo = [(source, victim) for source in _distinct_forms(forms) for victim in _distinct_forms(forms)]
        found = []
        with progress_bar("transfer", len(todo)) as bar:
            for source, victim in todo:
                found.append(self._carried(study, source, victim))
                bar.advance(note=f"{source.name} -> {victim.name}")
        return found

    def _carried(self, study: TransferStudy, source: Variant, victim: Variant) -> Record:
        question = {
            "transfer": [source.settings, victim.settings],
            "attack": study.attack.model_dump(mode="json"),
            "epsilon_lsb": study.epsilon_lsb,
            "n": self.samples,
            "seed": source.run.config.seed,
            "data": source.run.config.data.model_dump(mode="json"),
        }
        path = self.folder / f"{digest_of(question)[:24]}.json"
        if not path.exists():
            carried = source.attacked(study.attack, study.epsilon_lsb, self.samples)
            y = victim.run.data.test.take(self.samples).y
            right = int((~judged(carried, victim.victim.logits(carried.x), y).success).sum())
            write_json(path, {"accuracy": right / len(y), "n": len(y), "ci95": list(wilson(right, len(y)))})
        record: Record = read_stored(path, TransferPart)
        names = {"made_on": source.name, "tried_on": victim.name}
        return names | {"attack": study.attack.label, "epsilon_lsb": study.epsilon_lsb} | record

    def _all(self, title: str, variants: Sequence[Variant], plans: Sequence[AttackPlan]) -> list[Record]:
        todo = [(variant, *item) for variant in variants for item in _strengths(plans)]
        found = []
        with progress_bar(title, len(todo)) as bar:
            for variant, attack, epsilon in todo:
                found.append(self._score(variant, attack, epsilon))
                bar.advance(note=f"{variant.label} {variant.settings}")
        return found

    def _score(self, variant: Variant, attack: Attack | None, epsilon: float) -> Record:
        """One number; `attack` None: clean."""
        run = variant.run
        question = {
            "settings": variant.settings,
            "attack": attack.model_dump(mode="json") if attack else None,
            "epsilon_lsb": epsilon,
            "n": self.samples,
            "seed": run.config.seed,
            "made_by": run.folder.outputs("train"),
            "quantization": run.config.quantization.model_dump(mode="json"),
            "data": run.config.data.model_dump(mode="json"),
        }
        path = self.folder / f"{digest_of(question)[:24]}.json"
        if not path.exists():
            write_json(path, self._computed(variant, attack, epsilon))
        record: Record = read_stored(path, StudyPart)
        return {"row": variant.label, **variant.settings, **record}

    def _computed(self, variant: Variant, attack: Attack | None, epsilon: float) -> Record:
        x, y = variant.run.data.test.take(self.samples)
        if attack is None:
            return {"attack": "clean", "accuracy": accuracy(variant.victim, x, y), "n": len(y)}
        result = variant.attacked(attack, epsilon, self.samples)
        record = {
            "attack": attack.label,
            "epsilon_lsb": finite_or_none(epsilon),
            "accuracy": result.accuracy,
            "n": len(y),
            "seed": result.seed,
            "settings": attack.model_dump(mode="json"),
            "zero_gradient_share": result.diagnostics.zero_gradient_share,
        }
        if variant.original is None:
            return record
        carried = variant.original.attacked(attack, epsilon, self.samples)
        there = judged(carried, variant.victim.logits(carried.x), y)
        return record | {"accuracy_on_unmapped_models_examples": there.accuracy}


def _strengths(plans: Sequence[AttackPlan]) -> Iterator[tuple[Attack | None, float]]:
    """Clean, then every attack at every ε."""
    yield None, 0.0
    yield from ((plan.attack, epsilon) for plan in plans for epsilon in plan.epsilons_lsb)


def _rounded(run: Run, label: str, bits: int) -> Variant:
    def build() -> KerasVictim:
        config = run.config.quantization.model_copy(update={"weight_bits": bits})
        grid = run.data.grid
        model = quantize_model(
            _float(run), config, run.data.train.take(config.calibration_samples).values, grid=grid
        ).model
        return KerasVictim(prequantize(model), "quantized", grid)

    return Variant(run, label, {"bits": bits}, build)


def _mapped(run: Run, label: str, mu: float, layers: tuple[str, ...], original: Variant | None) -> Variant:
    def build() -> KerasVictim:
        return KerasVictim(map_weights(_float(run), MappingConfig(mu=mu, layers=layers))[0], "float", run.data.grid)

    return Variant(run, label, {"mu": mu, "layers": list(layers)}, build, original)


def _forms(run: Run, label: str) -> list[Variant]:
    """The float network of a row, where there is one, and the quantized one, which the accelerator computes."""
    forms = []
    trained = run.folder.outputs("train") | run.folder.outputs("map")
    if (mapped := run.mapped_victim) is not None:
        forms.append(Variant(run, label, {"float": trained}, lambda: mapped, form="float"))
    rounded = {"quantized": run.folder.outputs("quantize") or trained}
    return [*forms, Variant(run, label, rounded, lambda: run.prequantized, form="quantized")]


def _distinct_forms(forms: Sequence[Variant]) -> list[Variant]:
    """Rows of one training have the same float network: it stands there once."""
    return list({digest_of(form.settings): form for form in reversed(forms)}.values())[::-1]


def _float(run: Run) -> Any:
    if run.float_model is None:
        raise UserError(f"{run.config.name}: studies start from a float model, and this row brings a QKeras one")
    return run.float_model
