"""Checks of `benchmarks/hostile.py`: your files in folders of ours, odd files in place of ours, streams and limits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.hostile_check import Check, Prepare, write

#: Another design: the project is made anew.
ANEW = ("generate", "run", "--set", "hardware.clock_period_ns=7")


def _recorded(name: str, step: str, content: Any) -> Prepare:
    """A file that somebody edited together with the record of the step that made it; what follows is done again."""

    def prepare(folder: Path) -> None:
        from qmodels.digest import file_digest

        (folder / "run" / name).write_text(json.dumps(content))
        record = folder / "run" / ".steps" / f"{step}.json"
        plain = json.loads(record.read_text())
        plain["outputs"][name] = file_digest(folder / "run" / name)
        record.write_text(json.dumps(plain))
        (folder / "run" / "results.json").unlink()

    return prepare


def _in_place(name: str, make: Callable[[Path], object]) -> Prepare:
    """Something else where a file or folder of ours was, which is moved away."""

    def prepare(folder: Path) -> None:
        path = folder / name
        path.rename(folder / "moved")
        make(path)

    return prepare


def yours() -> Iterator[Check]:
    """Your files in `hls/`, and links, pipes and folders where ours should be."""
    mine = write("run/hls/mine.txt", "precious")
    yield Check("yours", ANEW, "it is kept", (0,), mine, edits="run/", kept=("run/hls/mine.txt",))
    for place in ("run/hls/firmware/deep/mine.h", "run/hls/tb_data/mine.dat"):
        yield Check("yours", ANEW, "it is kept", (0,), write(place, "precious"), edits="run/", kept=(place,))
    edited = write("run/hls/build_prj.tcl", "mine")
    yield Check("yours", ANEW, "build_prj.tcl.edited", (0,), edited, edits="run/", note="edited")
    linked = _in_place("run/hls", lambda path: path.symlink_to(path.parent.parent / "mine" / "hls"))
    yield Check("yours", ANEW, "", (0, 2), linked, edits="run/", writes=True, note="hls is a link")
    yield Check("yours", ANEW, "", (0, 2), _in_place("run/hls", lambda path: path.write_text("x")), edits="run/",
                writes=True, note="hls is a file")  # fmt: skip
    for name in ("results.json", "cost.json", "report.html", "config.yaml", "environment.json"):
        linked = _in_place(f"run/{name}", lambda path: path.symlink_to("../notes.txt"))
        yield Check("yours", ("run", "run"), "", (0, 2), linked, edits="run/", writes=True, note=f"{name} is a link")
    for name in (".robust-hls.json", "config.yaml", "results.json", ".steps/report.json", ".made.json"):
        for what, make in (("pipe", os.mkfifo), ("folder", Path.mkdir)):
            yield Check("yours", ("run", "run"), "", (0, 2), _in_place(f"run/{name}", make), edits="run/", writes=True,
                        note=f"{name} is a {what}")  # fmt: skip
    yield Check("yours", ("report", "run"), "run/results.json", prepare=_in_place("run/results.json", os.mkfifo))
    yield Check("yours", ("run", "run"), "", (0, 2), _in_place("run/.steps", lambda path: path.write_text("x")),
                edits="run/", writes=True, note=".steps is a file")  # fmt: skip
    yield Check("yours", ("run", "run"), "config.yaml: seed", prepare=write("run/config.yaml", "seed: -1"))
    for name, step, told in (("cost.json", "project", "run/cost.json:"), ("simulation.json", "simulate", "run/simul")):
        for content in ([], {}, "text"):
            prepare = _recorded(name, step, content)
            yield Check("yours", ("run", "run"), told, prepare=prepare, writes=True, edits="run/", note=f"{content!r}")


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


_TABLES: dict[str, str | bytes] = {
    "header only": _lines("a,b,label"),
    "one class": _lines("a,b,label", *["1,2,x"] * 50),
    "ragged": _lines("a,b,label", *["1,2,x", "1,y"] * 50),
    "NUL": b"a,b,label\n" + b"1,\0,x\n" * 50,
    "not finite": _lines("a,b,label", *["1,nan,x", "inf,2,y"] * 50),
    "no comma": _lines(*["word"] * 50),
    "one line": "1," * 100_000,
    "a quote without end": _lines("a,b,label", '1,"2,x', *["1,2,y"] * 50),
    "text": _lines("a,b,label", *["one,two,x", "three,four,y"] * 50),
    "UTF-16": "a,b,label\n1,2,x\n3,4,y\n".encode("utf-16"),
}


def data() -> Iterator[Check]:
    """Tables and arrays that are no data set."""
    for note, content in _TABLES.items():
        yield Check("data", ("train", "--data", "d.csv"), "d.csv", prepare=write("d.csv", content), note=note)

    def arrays(**given: Any) -> Prepare:
        def prepare(folder: Path) -> None:
            import numpy as np

            np.savez(folder / "d.npz", **given)

        return prepare

    import numpy as np

    x, y = np.zeros((40, 4), np.float32), np.arange(40) % 2
    for note, given in {
        "objects": {"x": np.array([{}] * 40, object), "y": y},
        "labels of text": {"x": x, "y": np.array(["a"] * 40)},
        "negative labels": {"x": x, "y": y - 5},
        "huge labels": {"x": x, "y": y * 10**15},
        "labels not whole": {"x": x, "y": y + 0.5},
        "other lengths": {"x": x, "y": y[:7]},
        "nothing": {"x": x[:0], "y": y[:0]},
        "complex": {"x": x + 1j, "y": y},
        "no names": {"z": x},
    }.items():
        yield Check("data", ("train", "--data", "d.npz"), "d.npz", prepare=arrays(**given), note=note)


def streams() -> Iterator[Check]:
    """Closed and full streams, small limits, and what others' programs are set to."""
    report = ("report", "run")
    for shell, told, status in (
        *(("exec 2>&-", "clean", 0), ("exec >&-", "", 0), ("exec <&-", "clean", 0), ("exec <&- >&- 2>&-", "", 0)),
        *(("exec >/dev/full", "No space left", 2), ("umask 0", "clean", 0)),
    ):
        yield Check("streams", report, told, (status,), shell=shell)
    yield Check("streams", ("run", "--set", "sed=1"), "", shell="exec >&- 2>&-")
    yield Check("streams", ("run", "--set", "sed=1"), "sed: unknown", shell="exec <&- >&-")
    yield Check("streams", ("report", "run", "-o", "x.html"), "", (0, 2), shell="ulimit -f 1", note="file size",
                writes=True)  # fmt: skip
    yield Check("streams", ("doctor",), "", (0, 2, 3), shell="ulimit -n 16", note="open files")
    yield Check("streams", ("doctor",), "You have all", (0,), shell="umask 0", environment={"ROBUST_HLS_CACHE": "@/c"})
    for variables in (
        *({"COLUMNS": "0"}, {"COLUMNS": "many"}, {"TERM": "nonsense"}, {"FORCE_COLOR": "1"}, {"TMPDIR": "@/nowhere"}),
        *({"HOME": "@/notes.txt"}, {"PYTHONIOENCODING": "utf-16"}, {"TZ": "Nowhere/At-All"}, {"LANG": "xx_YY.nope"}),
    ):
        told = "" if "PYTHONIOENCODING" in variables else "clean"
        yield Check("streams", report, told, (0,), environment=variables, shell=":", note=str(variables))
    train = ("train", "--set", "data.limit_train=200", "--set", "training.epochs=1", "--out", "new")
    yield Check("streams", train, "Keras 2", environment={"TF_USE_LEGACY_KERAS": "0"}, shell=":", writes=True)
    for text in ('{"floatx": "float12"}', '{"floatx": "float16", "image_data_format": "channels_first"}', "[]"):
        yield Check("streams", train, "model.keras", (0,), write(".keras/keras.json", text), {"HOME": "@"}, shell=":",
                    note=f"keras.json {text}")  # fmt: skip
    for name in ("c\x1b]0;title\x07.yaml", "c\x1b[2J.yaml", "c\r.yaml", "c\u202e.yaml"):
        yield Check("streams", ("run", name), ascii(name[1])[1:-1], shell=":", note="control characters")


MORE: dict[str, Callable[[], Iterator[Check]]] = {"yours": yours, "data": data, "streams": streams}
