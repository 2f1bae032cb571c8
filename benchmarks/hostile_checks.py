"""The checks of `benchmarks/hostile.py`: what is done, and what must come of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.hostile_check import Check, Prepare, write
from benchmarks.hostile_edits import edited
from benchmarks.hostile_models import contents
from benchmarks.hostile_more import MORE

#: A run of seconds.
TINY = (
    *("data.limit_train=200", "data.limit_test=20", "model.architecture=mlp", "model.hidden=[4]", "training.epochs=1"),
    *("training.method=standard", "evaluation.attacks=[{attack: {kind: fgsm}, epsilons_lsb: [8, 16]}]"),
    *("evaluation.black_box=[]", "evaluation.samples=10", "simulation.verify_samples=2", "simulation.verify_random=1"),
)
SET = tuple(word for setting in TINY for word in ("--set", setting))
LONG = "x" * 300
#: Two designs.
SIZING = """
name: tiny
space: {quantization.weight_bits: [2, 4]}
worst_case: {epsilon_lsb: 16, attack: {kind: worst-case, attacks: [{kind: square}]}}
"""


def cache_of(stock: Path) -> Path:
    """The cache of all commands but those that are about it."""
    return stock.with_name("cache")


def fixtures(stock: Path) -> Path:
    """Files that every check finds: a model, data, files of the user's own, and a finished run."""
    stock.mkdir()
    for name in ("mine/hls/precious.cpp", "mine/config.yaml", "mine/thesis.txt", "hls/precious.cpp", "notes.txt"):
        (stock / name).parent.mkdir(parents=True, exist_ok=True)
        (stock / name).write_text("precious\n")
    command = [sys.executable, "-m", "hw.start", "run", *SET, "--out", str(stock / "run")]
    root = str(Path(__file__).resolve().parent.parent)
    cache_of(stock).mkdir(mode=0o700)
    environment = {**os.environ, "PYTHONPATH": root, "ROBUST_HLS_CACHE": str(cache_of(stock))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-1000:] + done.stderr[-3000:])
    models = [sys.executable, "-W", "ignore", "-m", "benchmarks.hostile_models", str(stock / "models")]
    subprocess.run(models, env={**os.environ, "PYTHONPATH": root}, cwd=root, capture_output=True, check=True)
    (stock / "mine" / "model.keras").write_bytes((stock / "run" / "quantized.keras").read_bytes())
    return stock


# Config

_WRONG_VALUES = {
    "seed": ("abc", "-1", "1.5", "[]", "{}", "2147483648", ".nan", "1" + "0" * 400, "null"),
    "name": ("3", "[a]", "../x", "a/b", "''", "-x", "x" * 80, "null"),
    "training": ("7", "[]", "null", "text"),
    "training.epochs": ("0", "-3", "2.5", "many", "1" + "0" * 30),
    "training.learning_rate": (".nan", ".inf", "fast", "[1]"),
    "training.method": ("feedbak", "3", "[]"),
    "model.architecture": ("cnn", "7", "[]"),
    "model.hidden": ("[64, 0]", "[-1]", "text", "[a]"),
    "mapping.mu": ("-1", ".nan", ".inf", "1e7", "x"),
    "quantization.weight_bits": ("1", "17", "x", "2.5", ".nan"),
    "hardware.clock_period_ns": ("0", "-5", "1e9", ".nan", "x"),
    "hardware.reuse_factor": ("0", "-1", "x"),
    "evaluation.samples": ("0", "-1", "x"),
    "evaluation.attacks": ("5", "[5]", "[{attack: {}}]", "[{attack: {kind: pdg}, epsilons_lsb: [1]}]", "[{}]"),
    "simulation.engine": ("rtl", "3"),
    "data.name": ("3", "[]", "nowhere"),
    "data.validation_share": ("1", "-1", "x", ".nan"),
}
_TEXTS = {
    "empty": ("", "mapping of sections"),
    "list": ("[1, 2]", "mapping of sections"),
    "text": ("just words", "mapping of sections"),
    "tabs": ("a:\n\t- b", "not plain YAML"),
    "python": ("a: !!python/object/apply:os.system ['touch hacked']", "not plain YAML"),
    "twice": ("seed: 1\nseed: 2", "is given twice"),
    "itself": ("a: &a [*a]", "contains itself"),
    "deep": ("a: " + "[" * 5000, "not plain YAML"),
    "digits": ("seed: " + "9" * 9000, "too large a number"),
    "long": ("# " + "x" * (2 << 20), "characters"),
    "date": ("name: 2024-99-99", "not plain YAML"),
    "unknown": ("traning: {epochs: 1}", "did you mean 'training'"),
    "bomb": ("\n".join(["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]), "100,000"),
}


def config() -> Iterator[Check]:
    """Wrong values, wrong keys, YAML that is none or too much."""
    for key, values in _WRONG_VALUES.items():
        for value in values:
            yield Check("config", ("run", "--set", f"{key}={value}"), key.split(".")[0])
    for name, (text, told) in _TEXTS.items():
        for command in ("run", "size"):
            yield Check(
                "config",
                (command, "c.yaml"),
                told if command == "run" else "c.yaml",
                prepare=write("c.yaml", text),
                note=name,
            )
    for key in ("a..b=1", ".a=1", "a.=1", "=1", "seed", "", "a.b.c.d=1", "seed.x=1", "nothing=1"):
        yield Check("config", ("train", "--set", key), "--set")
    yield Check(
        "config", ("run", "c.yaml"), "not a readable text file", prepare=write("c.yaml", "name: \xe9".encode("latin-1"))
    )
    yield Check("config", ("run", "c.yaml"), "c.yaml: seed", prepare=write("c.yaml", "seed: -1"))
    yield Check("config", ("run", "c.yaml", "--set", "seed=-2"), "--set: seed", prepare=write("c.yaml", "seed: 1"))


# Paths

_PATHS: dict[str, tuple[str, Prepare]] = {
    "empty": ("", lambda folder: None),
    "too long": (LONG, lambda folder: None),
    "too long a way": ("a/" * 3000, lambda folder: None),
    "loop": ("loop", lambda folder: (folder / "loop").symlink_to("loop")),
    "below a file": ("notes.txt/x", lambda folder: None),
    "not UTF-8": (os.fsdecode(b"\xff\xfe"), lambda folder: None),
}
_PATH_OPTIONS = (
    ("generate", "--model", "*"),
    ("generate", "--model", "mine/model.keras", "--weights", "*"),
    ("generate", "--out", "*"),
    ("generate", "--hls-config", "*"),
    ("generate", "*"),
    ("report", "*"),
    ("report", "run", "-o", "*"),
    ("synth", "*"),
    ("synth", "run", "--reports", "*"),
    ("size", "*"),
    ("tables", "mnist", "--out", "*"),
)
_NO_FILES: dict[str, Prepare] = {
    "a folder": lambda folder: (folder / "thing.yaml").mkdir(),
    "a pipe": lambda folder: os.mkfifo(folder / "thing.yaml"),
    "a broken link": lambda folder: (folder / "thing.yaml").symlink_to("nowhere"),
    "missing": lambda folder: None,
}


def paths() -> Iterator[Check]:
    """Paths that no file can have, and files that are none."""
    for words in _PATH_OPTIONS:
        for note, (path, prepare) in _PATHS.items():
            arguments = tuple(path if word == "*" else word for word in words)
            yield Check("paths", arguments, "robust-hls: ", prepare=prepare, note=note)
    for words in (
        ("generate", "--model", "*"),
        ("run", "*"),
        ("size", "*"),
        ("generate", "--hls-config", "*"),
        ("report", "*"),
    ):
        for note, prepare in _NO_FILES.items():
            arguments = tuple("thing.yaml" if word == "*" else word for word in words)
            told = "robust-hls: " if note == "a broken link" else "thing.yaml"  # a link is followed first
            yield Check("paths", arguments, told, prepare=prepare, note=note)
    for output, told in (
        *((name, "one of the files of a run") for name in ("run/results.json", "run/report.html")),
        *(("missing/x.html", "no folder missing"), ("mine", "unknown format"), ("x.NPZ", "unknown format")),
        *(("x.html/y.html", "no folder"), ("run/hls/x.html", "")),
    ):
        yield Check("paths", ("report", "run", "-o", output), told, statuses=(2,) if told else (0,))


# Folders


def folders() -> Iterator[Check]:
    """Folders that are not ours, or of another kind, or hold what we are given."""
    own = ("--model", "mine/model.keras")
    for command in ("generate", "run", "simulate", "train", "attack", "evaluate"):
        yield Check("folders", (command, *own, "--out", "mine"), "lies inside the output folder")
        for out in (".", "mine", "mine/hls"):
            for resume in ((), ("--resume",)):
                yield Check("folders", (command, "--out", out, *resume), "not made by robust-hls")
    for command in ("generate", "run", "synth", "report"):
        yield Check("folders", (command, "mine"), "mine")
    yield Check("folders", ("run", *SET, "--out", "run"), "already contains a run")
    yield Check("folders", ("train", "--out", "run/inside"), "lies inside the run")
    yield Check("folders", ("tables", "mnist", "--out", "run"), "contains a run, not tables")
    yield Check("folders", ("run", "run", "--out", "notes.txt"), "notes.txt")
    yield Check("folders", ("run", "run"), "damaged", prepare=write("run/.robust-hls.json", "{"))
    yield Check(
        "folders",
        ("run", "run"),
        "contains a sizing",
        prepare=write("run/.robust-hls.json", '{"schema": 1, "kind": "sizing"}'),
    )
    yield Check("folders", ("generate", "--model", "run/model.keras", "--out", "run", "--resume"), "lies inside")


# Models and data


def files() -> Iterator[Check]:
    """Model and data files that are damaged or something else."""
    contents: dict[str, bytes] = {
        "empty": b"",
        "text": b"hello",
        "zip": b"PK\x03\x04" + bytes(100),
        "hdf": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "json": b"{}",
        "list": b"[1]",
        "deep": b"[" * 100_000,
        "zeros": bytes(10_000),
    }
    for note, content in contents.items():
        for name in ("m.keras", "m.h5", "m.json", *(["m.onnx"] if find_spec("qonnx") else [])):
            yield Check("files", ("generate", "--model", name), name, prepare=write(name, content), note=note)
        yield Check("files", ("train", "--data", "d.npz"), "d.npz", prepare=write("d.npz", content), note=note)

    def cut(share: float) -> Prepare:
        def prepare(folder: Path) -> None:
            content = (folder / "mine" / "model.keras").read_bytes()
            (folder / "m.keras").write_bytes(content[: int(share * len(content))])

        return prepare

    for share in (0.1, 0.5, 0.9, 0.99):
        yield Check("files", ("generate", "--model", "m.keras"), "m.keras", prepare=cut(share), note=f"{share:g} of it")
    yield Check("files", ("generate", "--weights", "notes.txt"), "--model")
    yield Check("files", ("generate", "--repair"), "--model")


# The machine


def tool(script: str) -> Prepare:
    """A g++ of our own making."""

    def prepare(folder: Path) -> None:
        (folder / "g++").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "g++").chmod(0o755)

    return prepare


def machine() -> Iterator[Check]:
    """Compilers, caches, variables and encodings that are not as they should be."""
    scripts = {
        "exit 0": ("wrote no", 3),
        "exit 1": ("failed", 3),
        "exit 7": ("failed", 3),
        "kill -SEGV $$": ("failed", 3),
        "sleep 100": ("still ran after", 3),
        "echo 'No space left on device' >&2; exit 1": ("no space", 2),
        "printf '\\377 error \\351' >&2; exit 1": ("failed", 3),
    }
    for script, (told, status) in scripts.items():
        for command in (("simulate", *SET), ("doctor",), ("run", *SET), ("attack", *SET)):
            environment = {"ROBUST_HLS_GXX": "@/g++", "ROBUST_HLS_GXX_SECONDS": "1"}
            statuses = (3,) if command == ("doctor",) else (status,)
            yield Check("machine", command, told, statuses, tool(script), environment, note=script)
    bad = {
        "ROBUST_HLS_ISA": "z80",
        "ROBUST_HLS_GXX_SECONDS": "soon",
        "ROBUST_HLS_GXX": "/nowhere",
        "ROBUST_HLS_CACHE": "@/notes.txt",
    }
    for variable, value in bad.items():
        for command in ("simulate", "run"):
            status = 3 if variable == "ROBUST_HLS_GXX" else 2
            told = "notes.txt" if variable == "ROBUST_HLS_CACHE" else variable
            yield Check("machine", (command, *SET), told, (status,), environment={variable: value})
        for words in (("tables", "mnist"), ("size", "sizing.yaml")):
            yield Check("machine", words, told, (status,), write("sizing.yaml", SIZING), environment={variable: value})
    yield Check("machine", ("simulate", *SET), "others can write", environment={"ROBUST_HLS_CACHE": "@/open"},
                prepare=lambda folder: ((folder / "open").mkdir(), (folder / "open").chmod(0o777)))  # fmt: skip
    for name, environment in {
        "latin-1": {"PYTHONIOENCODING": "latin-1"},
        "ascii": {"PYTHONIOENCODING": "ascii"},
        "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "warnings": {"PYTHONWARNINGS": "error"},
        "no HOME": {"HOME": "-"},
        "HOME nowhere": {"HOME": "/nonexistent"},
        "optimized": {"PYTHONOPTIMIZE": "1"},
    }.items():
        yield Check("machine", ("report", "run"), "clean", (0,), environment=environment, note=name)
        yield Check("machine", ("doctor",), "You have all", (0,), environment=environment, note=name)
        yield Check("machine", ("train", *SET, "--out", "new"), "model.keras", (0,), environment=environment, note=name)
    yield Check("machine", ("train", *SET), "PYTHONOPTIMIZE=2", environment={"PYTHONOPTIMIZE": "2"})
    for address in ("tcp://127.0.0.1:9", "nonsense", "tcp://", "http://127.0.0.1:9"):
        arguments = ("size", "s.yaml", "--scheduler", address)
        root = Path(__file__).resolve().parent.parent / "configs" / "sizing_digits.yaml"
        of_the_demo = root.read_text(encoding="utf-8").replace("experiment: digits.yaml\n", "")
        yield Check("machine", arguments, "no scheduler", prepare=write("s.yaml", of_the_demo))


def signals() -> Iterator[Check]:
    """Ctrl-C at moments of the start-up: ended, with a word, and nothing lost."""
    for number in range(20):
        after = 0.15 + 0.3 * number
        yield Check(
            "signals",
            ("run", "--out", "new", "--set", "training.epochs=5000"),
            "stopped",
            (130, -2),
            interrupt_after=after,
            writes=True,
            note=f"{after:.2f} s",
        )


KINDS: dict[str, Callable[[], Iterator[Check]]] = {
    "config": config,
    "contents": contents,
    "paths": paths,
    "folders": folders,
    "files": files,
    "edited": edited,
    "machine": machine,
    "signals": signals,
    **MORE,
}
