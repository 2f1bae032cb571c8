"""Reports of a small made-up run: what the tables say, and that hostile names stay names."""

import base64
import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from hw.experiment.ball import headline_ball
from hw.report import console_table, html_report, load_run, report_runs
from hw.report.console import console_text
from hw.report.export import csv_text, markdown_text
from hw.report.headline import MARKS, headline, unbounded_checks
from hw.report.images import png
from hw.report.plots import line_style
from hw.report.source import AttackSettings, parse_results
from qmodels.errors import UserError
from qmodels.metrics.masking import EXPLANATIONS, Row

MODEL = "F.L.+mu"


def row(victim, attack, accuracy, epsilon=0.0, **more):
    bits = None if victim == "float" else 3
    defaults = {"bits": bits, "n": 200, "epsilon_lsb": epsilon, "ci95": (0.1, 0.9)}
    if attack != "clean":
        defaults |= {"knowledge": "white-box", "family": "gradient", "seed": 7, "unbounded": epsilon >= 255}
    return Row(MODEL, victim, attack, accuracy, **(defaults | more)).as_json()


def results(name="digits", **changes):
    rows = [
        row("float", "clean", 0.95),
        row("bitsim", "clean", 0.9),
        row("float", "fgsm", 0.8, 8),
        row("float", "fgsm", 0.6, 16),
        row("float", "pgd-linf", 0.55, 16, iterative=True, flags=("zero-gradients",)),
        row("float", "pgd-linf", 0.0, 255),
        row("bitsim", "fgsm", 0.7, 16, source="quantized"),
        row("bitsim", "pgd-linf", 0.5, 16, source="quantized"),
        row("bitsim", "pgd-linf", 0.01, 255, source="quantized"),
        row("bitsim", "fgsm", 0.45, 16, knowledge="transfer", source=f"{MODEL}/float"),
        row("float", "gaussian", 0.93, 16, knowledge="none", family="noise"),
    ]
    worst = [{"model": MODEL, "victim": "bitsim", "norm": "linf", "epsilon_lsb": 16.0, "accuracy": 0.42}]
    return {
        "schema": 1,
        "run": name,
        "rows": rows,
        "worst_case": worst,
        "attacks": [
            {"attack": "fgsm", "epsilons_lsb": [8.0, 16.0], "settings": {"kind": "fgsm", "step_lsb": [8.0, 16.0]}},
            {"attack": "pgd-linf", "epsilons_lsb": [16.0, 255.0], "settings": {"steps": 40, "step_lsb": [1.0, 16.0]}},
        ],
        "exactness": {"engine": "bitsim", "inputs": 3000, "adversarial_inputs": 2000, "mismatched_outputs": 0,
                      "csim_inputs": 300},
    } | changes  # fmt: skip


def training():
    margins = [{"label": c, "samples": 9, "mean": 1.0 + c, "min": 0.1, "std": 0.2} for c in range(3)]
    history = [
        {"phase": int(e > 3), "epoch": e, "loss": 1 / e, "validation_loss": 1.2 / e, "validation_accuracy": 0.5,
         "validation_pgd_accuracy": 0.3 if e > 2 else None}
        for e in range(1, 6)
    ]  # fmt: skip
    return {"method": "feedback", "epochs": 5, "best_epoch": 4, "seconds": 3.0, "history": history,
            "rounds": [{"before": margins, "after": margins}]}  # fmt: skip


def examples(shape, source="F.L.+mu/quantized"):
    pixels = base64.b64encode(bytes(range(int(np.prod(shape))))).decode()
    sample = {"index": 5, "label": 2, "clean": pixels, "attacked": pixels, "answers": [[2, 0]]}
    return {"attack": "pgd-linf", "epsilon_lsb": 16.0, "source": source, "shape": list(shape),
            "victims": [{"model": MODEL, "victim": "bitsim", "bits": 3}], "samples": [sample]}  # fmt: skip


@pytest.fixture
def run_folder(tmp_path):
    def make(name="digits", **changes):
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        layer = {"layer": "fc1", "weight": "fixed<3,0>", "activation": None, "relative_error": 0.123456}
        files = {"results": results(name, **changes), "training": training(), "examples": examples((4, 4, 1)),
                 "quantization": [layer], "environment": {"cpu": "a CPU", "packages": {"numpy": "2"}}}  # fmt: skip
        for stem, content in files.items():
            (folder / f"{stem}.json").write_text(json.dumps(content))
        (folder / "config.yaml").write_text(f"name: {name}\nseed: 7\n")
        return folder

    return make


def test_every_flag_has_its_own_mark():
    assert list(MARKS) == list(EXPLANATIONS) and len(set(MARKS.values())) == len(MARKS)


def test_headline_has_a_line_per_victim_and_a_column_per_bounded_attack():
    table = headline([parse_results(results())])
    assert [(c.attack, c.epsilon_lsb) for c in table.columns] == [
        ("fgsm", 8), ("fgsm", 16), ("pgd-linf", 16), ("gaussian", 16)
    ]  # fmt: skip
    float_line, bitsim_line = table.lines
    assert [number and number.accuracy for number in bitsim_line.attacked] == [None, 0.7, 0.5, None]
    assert bitsim_line.transfer.accuracy == 0.45
    assert bitsim_line.worst.accuracy == 0.42  # image by image: below the lowest row
    assert float_line.worst.accuracy == 0.55  # no minimum stored for it: the lowest row
    assert float_line.flags == ("zero-gradients",) and bitsim_line.flags == ()


def with_black_box():
    more = [
        row("bitsim", "fgsm", 0.65, 16, knowledge="black-box", source="mlp/float"),
        row("bitsim", "fgsm", 0.6, 16, knowledge="black-box", source="apart/float"),
        row("bitsim", "cw-l2", 0.85, float("inf"), norm="l2", family="minimal-norm", knowledge="black-box",
            source="mlp/float"),
        row("bitsim", "square", 0.55, 16, knowledge="black-box", family="score", flags=("not-converged",)),
    ]  # fmt: skip
    return parse_results(results(rows=results()["rows"] + more, worst_case=[]))


def test_black_box_examples_have_columns_of_their_own():
    table = headline([with_black_box()])
    bitsim = next(line for line in table.lines if line.victim == "bitsim")
    shown = {(c.title, c.strength): n.accuracy for c, n in zip(table.columns, bitsim.attacked, strict=True) if n}
    assert shown == {
        ("fgsm", "16"): 0.7, ("pgd-linf", "16"): 0.5, ("square", "16"): 0.55,
        ("fgsm (black-box)", "16"): 0.6, ("cw-l2 (black-box)", "∞"): 0.85,
    }  # fmt: skip
    assert table.attackers == ("mlp/float", "apart/float") and "mlp/float, apart/float" in table.notes[0]
    assert table.columns[-1].attack == "gaussian"  # noise comes last
    assert len(unbounded_checks(with_black_box())) == 1  # pgd-linf; examples made apart need not reach 100 %


def test_the_verdict_names_the_worst_case_and_the_spoilt_columns():
    verdicts = dict(text.split(": ", 1) for text in headline([with_black_box()]).verdicts)
    assert "worst case 45.0 % within L∞ ε = 16 LSB" in verdicts["F.L.+mu bitsim, 3 bits"]
    assert "do not believe square 16 (not-converged)" in verdicts["F.L.+mu bitsim, 3 bits"]
    honest = headline([parse_results(results(rows=[row("float", "clean", 0.9), row("float", "fgsm", 0.3, 8)]))])
    assert honest.verdicts == [
        "F.L.+mu float: clean 90.0 %, worst case 30.0 % within L∞ ε = 8 LSB; no flag: you can believe the columns"
    ]


def measures():
    return {
        "boundary_distance": [{"model": MODEL, "victim": "bitsim", "bits": 3, "images_fooled": 7,
                               "median_l2_lsb": None, "nearest_l2_found_by": {"cw-l2": 5, "fgsm": 2}}],
        "quantization_shift": [{"layer": "conv1_relu", "mean_ratio": 0.8125}],
        "error_amplification": [{"layer": name, "float_relative_change": 0.1, "quantized_relative_change": 0.2}
                                for name in ("input_grid", "conv1$x$")],
        "accuracy_over_queries": [{"attack": "square$x$", "epsilon_lsb": None, "victim": "bitsim",
                                   "queries_per_image": [1, 10], "accuracy": [0.75, 0.5]}],
        "gradients": {"mean_cosine": 0.4375},
        "examples": {"attack": "pgd-linf"},
    }  # fmt: skip


def test_measures_are_in_the_html_and_in_markdown(run_folder):
    folder = run_folder(measures=measures())
    page, text = html_report([load_run(folder)]), markdown_text([load_run(folder).results])
    for needed in ("0.8125", "cw-l2: 5, fgsm: 2", "conv1"):
        assert needed in page and needed in text
    assert (
        "error amplification by layer" in page
        and "accuracy over queries" in page
        and "0.75, 0.5" in text
        and "0.4375" in page
    )
    for damaged in ([], {"boundary_distance": None}, None):  # what another version may leave there
        assert "error amplification" not in html_report([load_run(run_folder(measures=damaged))])


def test_layers_that_overflow_are_a_table_else_there_is_a_sentence(run_folder):
    folder = run_folder()
    assert "Overflow" not in html_report([load_run(folder)])  # simulated by an older version
    fits = {"layer": "conv1", "place": "result", "saturated": 0, "wrapped": 0, "of": 640}
    wraps = {"layer": "fc1", "place": "accumulator", "saturated": 0, "wrapped": 12345, "of": 640}
    record = {"engine": "bitsim", "images": 10, "layers": [fits]}
    for layers, said, shown in (
        ([fits], "on 10 clean test inputs every sum and every result fits its type", False),
        ([fits, wraps], "on 10 clean test inputs 12,345 numbers wrapped around and 0 saturated", True),
    ):
        (folder / "overflow.json").write_text(json.dumps(record | {"layers": layers}))
        page = html_report([load_run(folder)])
        assert said in page and ('<td class="number">12,345</td>' in page) is shown
        assert '<th scope="row">conv1</th>' not in page
    (folder / "overflow.json").write_text(json.dumps({"engine": "csim", "images": 10, "layers": []}))
    assert "it needs bitsim, and the engine of this run is csim" in html_report([load_run(folder)])


def test_headline_ball_is_where_most_attacks_were_run():
    assert headline_ball(parse_results(results()).rows) == ("linf", 16, "lsb")
    assert headline_ball([]) is None


def test_unbounded_attacks_are_checks_and_name_who_still_stands():
    (check,) = unbounded_checks(parse_results(results()))
    assert "255 LSB" in check and "F.L.+mu/bitsim 1.0 %" in check and "float 0" not in check


@pytest.mark.parametrize("width", [80, 100])
def test_console_states_what_a_number_needs_and_fits(width):
    text = console_text([parse_results(results())], width)
    for needed in ("n = 200", "seed 7", "1 LSB = 1/256", "L∞", "55.0Z", "42.0", "Z zero-gradients:", "3000 inputs",
                   "2000 of them adversarial", "csim was compared on 300", "steps=40"):  # fmt: skip
        assert needed in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= width
    assert "255" not in text[: text.index("transfer:")]


def test_console_cuts_a_wide_table_between_attacks_and_names_the_lines_again():
    rows = results()["rows"] + [row("float", f"attack-{i}", 0.5, 16) for i in range(20)]
    text = console_text([parse_results(results(rows=rows))], 80)
    assert text.count("victim bits") > 2
    assert max(map(len, text[: text.index("transfer:")].splitlines())) <= 80


def test_console_keeps_control_characters_and_markup_out(capsys):
    hostile = results(rows=[row("float", "clean", 0.5) | {"model": "\x1b[31m[red]x"}])
    console_table(hostile)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "?[31m[red]x" in out


def test_rows_without_any_attack_make_a_table_of_clean_accuracy():
    text = console_text([parse_results(results(rows=[row("float", "clean", 0.5)], worst_case=[], attacks=[]))], 80)
    assert "50.0" in text and "worst" not in text


def test_csv_reads_back_as_the_same_rows():
    original = parse_results(results())
    read = list(csv.DictReader(io.StringIO(csv_text([original]))))
    assert len(read) == len(original.rows)
    for record, expected in zip(read, original.rows, strict=True):
        assert (record["model"], record["victim"], record["attack"]) == (
            expected.model,
            expected.victim,
            expected.attack,
        )
        assert float(record["accuracy"]) == expected.accuracy
        assert float(record["epsilon_lsb"]) == expected.epsilon_lsb
        assert (float(record["ci95_low"]), float(record["ci95_high"])) == expected.ci95
        assert (int(record["n"]), int(record["seed"])) == (expected.n, expected.seed)
        assert tuple(record["flags"].split()) == expected.flags
    assert read[4]["settings"] == "steps=40 step_lsb=1"  # the step at this row's ε


def test_an_unbounded_epsilon_is_empty_in_csv():
    infinite = row("float", "cw-l2", 0.0, float("inf"), norm="l2")
    (record,) = csv.DictReader(io.StringIO(csv_text([parse_results(results(rows=[infinite]))])))
    assert record["epsilon_lsb"] == record["epsilon"] == ""


def test_markdown_keeps_names_from_breaking_the_table():
    hostile = results(rows=[row("float", "clean", 0.5) | {"model": "a|b\n<script>"}])
    text = markdown_text([parse_results(hostile)])
    assert r"a\|b \<script\>" in text and "<script>" not in text


def test_html_needs_nothing_from_outside(run_folder):
    page = html_report([load_run(run_folder())])
    assert not re.search(r"https?:|//[a-z]|<link|@import|url\((?!#)", page)
    assert set(re.findall(r'src="([^"]{10})', page)) == {"data:image"}
    assert page.count("<svg") >= 4 and "currentColor" in page
    for needed in ("zero-gradients", "nothing to follow", "3000 inputs", "fixed&lt;3,0&gt;", "true class 2", "seed: 7",
                   "a CPU", "steps=40 step_lsb=1"):  # fmt: skip
        assert needed in page


def test_html_escapes_names_everywhere(run_folder):
    script = "<script>alert(1)</script>$x$"
    rows = [r | {"model": script} for r in results()["rows"]] + [
        row("float", script, 0.5, 8),
        row("float", script, 0.4, 16),
    ]
    folder = run_folder(script, rows=rows)
    (folder / "examples.json").write_text(json.dumps(examples((4, 4, 1), source=script)))
    page = html_report([load_run(folder)])
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(("shape", "images"), [((5, 5, 3), 2), ((4, 4), 2), ((16,), 0), ((4, 4, 2), 0)])
def test_html_shows_grey_and_colour_images_and_no_others(tmp_path, shape, images):
    (tmp_path / "results.json").write_text(json.dumps(results(rows=[row("float", "clean", 0.5)])))  # no plots
    (tmp_path / "examples.json").write_text(json.dumps(examples(shape)))
    page = html_report([load_run(tmp_path)])
    assert page.count("<img") == images and "true class 2" in page


def test_png_holds_the_pixels():
    matplotlib_image = pytest.importorskip("matplotlib.image")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    assert np.array_equal(np.rint(matplotlib_image.imread(io.BytesIO(png(pixels))) * 255)[..., :3], pixels)


def test_html_of_a_bare_results_file(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results()))
    page = html_report([load_run(tmp_path)])
    assert "Accuracy over ε" in page and "Training" not in page


def test_several_runs_side_by_side(run_folder, tmp_path, capsys):
    folders = [run_folder("first"), run_folder("second")]
    for suffix in (".html", ".md", ".csv", ".json"):
        report_runs(folders, tmp_path / f"out{suffix}")
        text = (tmp_path / f"out{suffix}").read_text()
        assert "first" in text and "second" in text
    assert [run["run"] for run in json.loads((tmp_path / "out.json").read_text())["runs"]] == ["first", "second"]
    report_runs(folders, None)
    assert "first" in capsys.readouterr().out


def test_runs_of_one_name_are_called_by_their_folders(run_folder, capsys):
    folders = [run_folder("same"), run_folder("same")]
    report_runs(folders, None)
    out = capsys.readouterr().out
    assert all(str(folder) in out for folder in folders)


@pytest.mark.parametrize("name", ["out.pdf", "out", "out.htm"])
def test_unknown_suffix_is_refused_and_nothing_written(run_folder, tmp_path, name):
    with pytest.raises(UserError, match=r"allowed: \.html, \.md, \.csv, \.json"):
        report_runs([run_folder()], tmp_path / name)
    assert not (tmp_path / name).exists()


def test_folders_that_hold_no_results(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        report_runs([tmp_path / "nowhere"], None)
    with pytest.raises(UserError, match=r"no results\.json"):
        report_runs([tmp_path], None)
    for content in ("{", "[]", '{"schema": 2}', '{"schema": 1, "run": "x", "rows": [{"no": 1}]}'):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(UserError, match=r"results\.json"):
            report_runs([tmp_path], None)


def test_a_folder_that_cannot_be_written(run_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report_runs([run_folder()], tmp_path / "file" / "out.csv")


def test_importing_the_report_loads_neither_tensorflow_nor_matplotlib():
    code = "import sys, hw.report; print([m for m in ('tensorflow', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_of_an_attack_inside_another_are_told_without_braces():
    inner = [{"kind": "apgd-ce", "steps": 50, "loss": None}, {"kind": "square", "area": 0.8}]
    settings = AttackSettings("worst-case", (76.0,), {"kind": "worst-case", "attacks": inner, "batch": 250})
    assert settings.describe() == "attacks=apgd-ce(steps=50)/square(area=0.8) batch=250"


def test_every_line_of_a_figure_with_many_has_its_own_look():
    looks = {(style["color"], style["marker"]) for style in map(line_style, range(24))}
    assert len(looks) == 24
