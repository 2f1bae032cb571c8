"""Tables of README and docs, and figures in their sentences, from the JSON files that a command of this repo wrote.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, a figure between `<!-- figure: NAME -->` and
`<!-- end -->` (doc_figures.py). Without `--write` the script only compares, and ends with status 1 if a table or a
figure is not what its JSON says (`make lint`).

    python benchmarks/doc_tables.py [--write]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import goliath_tables, rtl_tables  # noqa: E402
from benchmarks.doc_figures import FIGURES, read  # noqa: E402
from hw.report.headline import MARKS  # noqa: E402
from hw.report.plots import accuracy_plots, standalone  # noqa: E402
from hw.report.source import parse_results  # noqa: E402
from hw.report.table import markdown_lines, records_table  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = re.compile(r"<!-- (?:table|figure): ")
FIRST = re.compile(r"^[ \t]*(?:[-*+]|\d+\.)?[ \t]*<!-- figure: [^>]*-->", re.MULTILINE)
BLOCK = re.compile(
    r"(?<=<!-- )(?:table: (?P<table>[\w ./-]+) -->\n.*?|figure: (?P<figure>[\w ./-]+) -->[^\n]*?)(?=<!-- end -->)",
    re.DOTALL,
)

#: README's name of a row of the MNIST tables -> its name in results.json
MNIST_ROWS = {
    "plainly trained": "Orig.",
    "adversarially trained (Adv.)": "Adv.",
    "Adv., step reaches the largest weight": "Adv., no clipping",
    "feedback learning (F.L.)": "F.L.",
    "F.L. + µ-law": "F.L.+mu",
    "Adv., codes chosen layer by layer (2.97 bits as codes)": "Adv., layer-wise",
    "robust recipe": "Robust recipe",
}
MNIST_COLUMNS = {
    "clean": "Clean", "FGSM 76": "FGSM (s)", "PGD 76": "PGD", "worst case 26": "worst (w)", "worst case 76": "worst (s)"
}  # fmt: skip
DIGITS_ROWS = {
    "float": ("F.L.+IBP", "float"),
    "mapped and quantized (QKeras)": ("F.L.+IBP+mu", "quantized"),
    "the accelerator (bitsim)": ("F.L.+IBP+mu", "bitsim"),
}


def markdown(header: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """A table; `align` has l or r for each column."""
    bars = ["---:" if side == "r" else "---" for side in align]
    lines = [header, bars, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def percent(accuracy: float, flags: Iterable[str] = ()) -> str:
    """One decimal, and the flags as letters."""
    return " ".join([f"{100 * accuracy:.1f}", "".join(MARKS[flag] for flag in flags)]).rstrip()


def digits() -> str:
    """The demo's table."""
    results = read("docs/results/digits/results.json")
    wanted = [("fgsm", 16, ""), ("pgd-linf", 16, ""), ("pgd-linf", 32, "")]
    rows = []
    for name, (model, victim) in DIGITS_ROWS.items():
        own = [row for row in results["rows"] if (row["model"], row["victim"]) == (model, victim)]
        clean = next(row for row in own if row["attack"] == "clean")
        attacked = [_row(own, attack, epsilon) for attack, epsilon, _ in wanted]
        worst = _worst(results["worst_case"], model, victim, 16)
        flags = sorted({flag for row in (clean, *attacked) for flag in row["flags"]})
        numbers = [percent(row["accuracy"]) for row in (clean, *attacked, worst)]
        rows.append([name, str(clean["bits"] or "–"), *numbers, ", ".join(flags)])
    header = [f"accuracy in %, n = {results['rows'][0]['n']}", "weight bits", "clean", "FGSM 16", "PGD-40 16"]
    return markdown([*header, "PGD-40 32", "worst case 16", "flags"], "lrrrrrrl", rows)


def _row(rows: list[dict[str, Any]], attack: str, epsilon: float) -> dict[str, Any]:
    """The white-box row of the model's own examples."""
    return next(
        row for row in rows if (row["attack"], row["epsilon_lsb"], row["knowledge"]) == (attack, epsilon, "white-box")
    )


def _worst(entries: list[dict[str, Any]], model: str, victim: str, epsilon: float) -> dict[str, Any]:
    return next(e for e in entries if (e["model"], e["victim"], e["epsilon_lsb"]) == (model, victim, epsilon))


def robust() -> str:
    """The rows of the robust recipe's run at 76 LSB."""
    results = read("docs/results/mnist_robust/results.json")
    rows = []
    for name, victim in {"float": "float", "quantized (QKeras)": "quantized", "accelerator (bitsim)": "bitsim"}.items():
        own = [row for row in results["rows"] if row["victim"] == victim]
        clean = next(row for row in own if row["attack"] == "clean")
        pick = [clean, _row(own, "fgsm", 76), _row(own, "pgd-linf", 76)]
        worst = _worst(results["worst_case"], clean["model"], victim, 76)
        searched = [row for row in own if (row["attack"], row["epsilon_lsb"]) == ("local-search", 76)]
        search = percent(searched[0]["accuracy"], searched[0]["flags"]) if searched else "–"
        rows.append(
            [name, *(percent(row["accuracy"], row["flags"]) for row in pick), search, percent(worst["accuracy"])]
        )
    return markdown(["", "clean", "FGSM", "PGD-40", "local search", "worst case"], "lrrrrr", rows)


def mnist() -> str:
    """README's rows of the MNIST tables: 3-bit accelerators, beside the published numbers."""
    results = read("docs/results/mnist/results.json")
    cells = {
        (cell["row"], cell["column"]): cell
        for cell in results["cells"]
        if (cell["table"], cell["line"]) == ("white-box", "accelerator")
    }
    rows = []
    for name, row in MNIST_ROWS.items():
        ours = [cells[row, column] for column in MNIST_COLUMNS.values()]
        published = [cells[row, column]["published"] for column in ("Clean", "FGSM (s)", "PGD")]
        told = "–" if None in published else ", ".join(percent(number) for number in published)
        rows.append([name, *(percent(cell["accuracy"], cell["flags"]) for cell in ours), told])
    header = ["MNIST, accuracy in %", *MNIST_COLUMNS, "published: clean, FGSM, PGD"]
    return markdown(header, "lrrrrrr", rows)


def figures(name: str) -> str:
    """All figures of docs/benchmarks/NAME.json, with the notes that the benchmark printed."""
    content = read(f"docs/benchmarks/{name}.json")
    notes, machine = content.get("notes", {}), content["machine"]
    rows = [[f"`{key}`", f"{value:,.4g}", notes.get(key, "")] for key, value in content["figures"].items()]
    rows += [[f"`{key}`", "left out", why] for key, why in content["left_out"].items()]
    where = f"Machine: {_machine(machine)}; load {machine['load_average']:.1f}.\n"
    told = "".join(
        f"\nOn another one ({_machine(other['machine'])}): {', '.join(f'`{key}`' for key in other['figures'])}.\n"
        for other in content.get("elsewhere", [])
    )
    return markdown(["key", "figure", "of"], "lrl", rows) + "\n" + where + told


def _machine(machine: dict[str, Any]) -> str:
    vectors = ", ".join(machine["vector_extensions"]) or "no vector extensions known"
    return f"{machine['cpu']}, {machine['cpus']} processors, {vectors}"


def activations() -> str:
    """What is proved of the demo's network, by the bits of its activations."""
    details = read("docs/benchmarks/certify.json")["details"]
    bits = sorted({int(key.split("_")[1].removeprefix("activations")) for key in details if "_activations" in key})
    rows = []
    for width in bits:
        near, far = (details[f"digits_activations{width}_eps{epsilon}"] for epsilon in (1, 2))
        shares = (near["clean"], near["certified"], 1 - near["broken"], far["certified"], 1 - far["broken"])
        rows.append([str(width), *(f"{100 * share:.1f}" for share in shares), f"{near['luts']:,}"])
    header = [
        "bits of activations",
        "clean",
        "proved, ε = 1",
        "not broken",
        "proved, ε = 2",
        "not broken",
        "LUTs, estimated",
    ]
    return markdown(header, "rrrrrrr", rows)


def proved() -> str:
    """Brackets of the digits network, by how it was trained."""
    details = read("docs/benchmarks/certify.json")["details"]
    asked = {
        run: sorted(
            (details[key] for key in details if key.startswith(f"{run}_decided_")), key=lambda one: one["epsilon_lsb"]
        )
        for run in ("digits_cnn", "digits_certified")
    }
    rows = []
    for name, brackets in {
        "feedback learning alone": read("docs/results/digits_feedback/results.json")["certificates"],
        "the demo": asked["digits_cnn"],
        "certified, 8 LSB": asked["digits_certified"],
    }.items():
        for one in brackets:
            shares = one["accuracy"], one["worst_case"], 1 - one["unknown"]
            methods = "all methods" if one["complete"] else "quick methods"
            rows.append([name, f"{one['epsilon_lsb']:g}", *(f"{100 * share:.1f}" for share in shares), methods])
    return markdown(["training", "ε", "proved", "not broken", "decided", "by"], "lrrrrl", rows)


def pgd_plot(run: str) -> str:
    """Accuracy under PGD over epsilon in docs/results/RUN, for a page that is light or dark."""
    plots = accuracy_plots(parse_results(read(f"docs/results/{run}/results.json")))
    return standalone(next(plot for plot in plots if plot.title.startswith("pgd-linf") and "white-box" in plot.title))


TABLES: dict[str, Callable[[], str]] = {
    "digits": digits,
    "mnist": mnist,
    "robust": robust,
    "certify activations": activations,
    "certify digits": proved,
}


def table(name: str) -> str:
    """The text of a table by its name; `figures NAME` is a benchmark's, `rtl` and `goliath NAME` have modules."""
    kind, _, argument = name.partition(" ")
    if kind == "goliath":
        records = goliath_tables.TABLES[argument](read("docs/results/goliath/results.json"))
        return "\n".join(markdown_lines(records_table(records))) + "\n"
    if kind == "rtl":
        return markdown(*rtl_tables.TABLES[argument](read("docs/benchmarks/rtl.json")["details"]))
    return figures(argument) if kind == "figures" else TABLES[name]()


def renewed(text: str) -> tuple[str, list[str]]:
    """A page as its JSON files want it, and the names of the tables and figures that were different.

    Raises:
        ValueError: a mark that does not end or begins a line, or a name that nothing here makes.
    """
    if found := FIRST.search(text):
        raise ValueError(f"{found[0].strip()}: a word must stand before it, else the line is HTML and no Markdown")
    stale: list[str] = []

    def fresh(found: re.Match[str]) -> str:
        kind, name = ("table", found["table"]) if found["table"] else ("figure", found["figure"])
        try:
            now = f"table: {name} -->\n{table(name)}" if kind == "table" else f"figure: {name} -->{FIGURES[name]()}"
        except (KeyError, StopIteration) as error:
            raise ValueError(f"{kind} {name!r}: not known, or not in its JSON ({error!r})") from None
        if now != found[0]:
            stale.append(f"{kind} {name}")
        return now

    text, ended = BLOCK.subn(fresh, text)
    if ended != (begun := len(MARK.findall(text))):
        raise ValueError(f"{begun} tables and figures begin, {ended} end with <!-- end --> (a figure: on its own line)")
    return text, stale


def main() -> int:
    """Compare, or write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--write", action="store_true", help="write the tables into the pages")
    write, failed = arguments.parse_args().write, False
    for page in PAGES:
        try:
            text, stale = renewed(page.read_text())
        except ValueError as error:
            failed = True
            print(f"{page.relative_to(ROOT)}: {error}")
            continue
        if stale and write:
            page.write_text(text)
        told = "written" if write else "not what the JSON says; python benchmarks/doc_tables.py --write"
        for name in stale:
            failed |= not write
            print(f"{page.relative_to(ROOT)}, {name}: {told}")
    if write:  # not compared: another Matplotlib draws other paths
        for run in ("digits", "mnist_robust"):
            (ROOT / "docs/images" / f"{run}.svg").write_text(pgd_plot(run))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
