"""Figures inside a sentence of README or docs, from the JSON files that a command of this repo wrote.

One stands between `<!-- figure: NAME -->` and `<!-- end -->`, on one line, after some word: a comment that begins a
paragraph or a list's item would make raw HTML of the whole line. A page does not show such comments.
`doc_tables.py` compares and writes them together with the tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DIGITS, MNIST = "docs/results/digits/results.json", "docs/results/mnist/results.json"
FEEDBACK = "docs/results/digits_feedback/results.json"
CERTIFIED = "docs/results/mnist_certified/results.json"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@cache
def read(path: str) -> Any:
    """A JSON file of the repo."""
    return json.loads((ROOT / path).read_text())


def bracket_told(epsilon: float) -> str:
    """The demo's accelerator: what is proved, and what attacks leave."""
    proved, attacked = _bracket(epsilon, DIGITS)
    return f"{proved} % (proved) and {attacked} % (attacked)"


def bracket(epsilon: float) -> str:
    """The same of the demo, shorter."""
    return "{} and {} %".format(*_bracket(epsilon, DIGITS))


def _bracket(epsilon: float, run: str) -> tuple[str, str]:
    found = next(one for one in read(run)["certificates"] if one["epsilon_lsb"] == epsilon)
    return f"{100 * found['accuracy']:.1f}", f"{100 * found['worst_case']:.1f}"


def mnist_bracket() -> str:
    """The first 1,000 MNIST images of the certified network: what is proved at 76 LSB, and what all attacks leave."""
    return "[{}, {}] %".format(*_bracket(76, CERTIFIED))


def digits_exactness() -> str:
    """Inputs on which the demo's accelerator was compared with the QKeras model; the page says that none differ."""
    gate = read(DIGITS)["exactness"]
    if gate["mismatched_outputs"]:
        raise ValueError(f"{gate['mismatched_outputs']} outputs differ, and the page says none")
    return f"{gate['inputs']:,} inputs ({gate['adversarial_inputs']:,} adversarial)"


def digits_csim() -> str:
    """Inputs of the demo that hls4ml's C simulation saw."""
    return f"{read(DIGITS)['exactness']['csim_inputs']:,}"


def three_bits() -> str:
    """What mapping and rounding cost the demo: its float network against the accelerator, clean and in the worst case.

    Raises:
        ValueError: the accelerator is better; the sentence says "cost".
    """
    results = read(DIGITS)
    clean = {row["victim"]: row["accuracy"] for row in results["rows"] if row["attack"] == "clean"}
    worst = {one["victim"]: one["accuracy"] for one in results["worst_case"] if one["epsilon_lsb"] == 16}
    lost, lost_worst = (_points(shares["float"] - shares["bitsim"]) for shares in (clean, worst))
    bits = next(row["bits"] for row in results["rows"] if row["victim"] == "bitsim")
    return f"{_WORDS[bits].capitalize()} bits cost {lost} points of clean accuracy, and {lost_worst} points"


def _points(share: float) -> str:
    whole = round(100 * share)
    if whole < 0:
        raise ValueError(f"{-whole} points are gained, and the page says lost")
    return _WORDS[whole] if whole < len(_WORDS) else str(whole)


def mnist_images() -> str:
    """Test images of the MNIST table's columns."""
    cells = [one for one in read(MNIST)["cells"] if (one["table"], one["line"]) == ("white-box", "accelerator")]
    counts = {column: {one["n"] for one in cells if one["column"] == column} for column in ("Clean", "FGSM (s)", "PGD")}
    (clean,), (single,), (others,) = counts.values()
    if clean != single:
        raise ValueError(f"Clean has {clean} images and FGSM {single}: this sentence no longer fits")
    return f"{clean:,} images; the others: {others:,}"


def mnist_exactness() -> str:
    """In millions of inputs: how many of all rows' accelerators differ from QKeras."""
    gates = [row["exactness"] for row in read(MNIST)["rows"].values()]
    inputs = sum(gate["inputs"] for gate in gates) / 1e6
    return f"{sum(gate['mismatched_outputs'] for gate in gates):,} of {inputs:.1f}"


def bitsim_speed() -> str:
    """How much faster bitsim is than hls4ml's C simulation, in words."""
    ratios = [
        value for key, value in read("docs/benchmarks/bitsim.json")["figures"].items() if key.endswith("_vs_csim")
    ]
    if median(ratios) < 2000 or min(ratios) < 1000:
        raise ValueError(f"bitsim against csim: {', '.join(f'{ratio:,.0f}' for ratio in ratios)} times, not thousands")
    return "thousands of times faster"


def attack_speed() -> str:
    """How much faster our PGD-40 is than the libraries', on three networks."""
    found = read("docs/benchmarks/attacks.json")["figures"]
    ratios = [
        value for key, value in found.items() if key.startswith("pgd40") and key.endswith(("_vs_art", "_vs_foolbox"))
    ]
    return f"{min(ratios):.1f} to {max(ratios):.1f} times"


def certified(key: str) -> str:
    """A share of docs/benchmarks/certify.json."""
    return f"{100 * read('docs/benchmarks/certify.json')['figures'][key]:.1f} %"


def clean(run: str, victim: str) -> str:
    """Accuracy of docs/results/RUN without an attack, on the images that were not attacked too if there are such."""
    results = read(f"docs/results/{run}/results.json")
    if results["clean"]:
        return f"{100 * results['clean']['accuracy'][victim]:.1f} %"
    found = next(row for row in results["rows"] if (row["attack"], row["victim"]) == ("clean", victim))
    return f"{100 * found['accuracy']:.1f} %"


def robust_worst_case() -> str:
    """What all attacks leave of the robust recipe's accelerator at 76 LSB."""
    entries = read("docs/results/mnist_robust/results.json")["worst_case"]
    found = next(one for one in entries if (one["victim"], one["epsilon_lsb"]) == ("bitsim", 76))
    return f"{100 * found['accuracy']:.1f} %"


FIGURES: dict[str, Callable[[], str]] = {
    "digits three bits": three_bits,
    "digits bracket told 2": lambda: bracket_told(2),
    "digits bracket 1": lambda: bracket(1),
    "digits feedback proved 2": lambda: _bracket(2, FEEDBACK)[0],
    "digits feedback attacked 2": lambda: _bracket(2, FEEDBACK)[1],
    "mnist certified": lambda: certified("mnist_certified"),
    "mnist bracket": mnist_bracket,
    "mnist certified clean": lambda: certified("mnist_certified_clean"),
    "mnist certified 26": lambda: certified("mnist_certified_eps26"),
    "mnist robust": robust_worst_case,
    "mnist robust clean": lambda: clean("mnist_robust", "bitsim"),
    "resnet8 float": lambda: clean("resnet8", "float"),
    "resnet8 four bits": lambda: clean("resnet8", "bitsim"),
    "digits exactness": digits_exactness,
    "digits csim": digits_csim,
    "bitsim speed": bitsim_speed,
    "attack speed": attack_speed,
    "mnist images": mnist_images,
    "mnist exactness": mnist_exactness,
}
