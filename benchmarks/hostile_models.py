"""Model files whose contents are hostile, of every format: names, weights, sizes, and quantizers of huge numbers.

`python -m benchmarks.hostile_models FOLDER` writes one good model there in every format; the checks damage copies.
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.hostile_check import Check, Prepare

Json = dict[str, Any]
FORMATS = ("keras", "h5", "json")
HUGE = 99999999999999999999


def write_originals(folder: Path) -> None:
    """The same small QKeras model for digits as own.keras, own.h5, and own.json with own.weights.h5; own.onnx."""
    from qmodels.runtime import runtime

    keras, qkeras = runtime().keras, runtime().qkeras
    keras.utils.set_random_seed(0)

    def settings() -> Json:
        return {key: qkeras.quantized_bits(4, 0, alpha=1) for key in ("kernel_quantizer", "bias_quantizer")}

    image = keras.Input((8, 8, 1), name="image")
    x = qkeras.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = qkeras.QConv2D(2, 3, name="c1", **settings())(x)
    x = qkeras.QActivation("quantized_relu(6,0)", name="act")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    model = keras.Model(image, qkeras.QDense(10, name="logits", **settings())(x), name="own")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("own.keras", "own.h5"):
        model.save(folder / name)
    (folder / "own.json").write_text(model.to_json())
    model.save_weights(folder / "own.weights.h5")


def damaged(
    kind: str, edit: Callable[[Json], None] | None = None, weights: Callable[[Any], None] | None = None
) -> Prepare:
    """Copies the original of a format into the folder as `bad.<kind>`, changed.

    Args:
        kind: keras, h5 or json.
        edit: changes the architecture, `{"class_name": ..., "config": {"layers": [...]}}`.
        weights: changes the open HDF5 file that holds the weights.
    """

    def prepare(folder: Path) -> None:
        import h5py

        source, target = folder / "models" / f"own.{kind}", folder / f"bad.{kind}"
        if kind == "json":
            shutil.copy(folder / "models" / "own.weights.h5", folder / "bad.weights.h5")
            target.write_text(_edited(source.read_text(), edit))
            if weights is not None:
                with h5py.File(folder / "bad.weights.h5", "r+") as file:
                    weights(file)
        elif kind == "h5":
            shutil.copy(source, target)
            with h5py.File(target, "r+") as file:
                file.attrs["model_config"] = _edited(file.attrs["model_config"], edit)
                if weights is not None:
                    weights(file)
        else:
            with zipfile.ZipFile(source) as archive:
                parts = {name: archive.read(name) for name in archive.namelist()}
            parts["config.json"] = _edited(parts["config.json"].decode(), edit).encode()
            if weights is not None:
                held = BytesIO(parts["model.weights.h5"])
                with h5py.File(held, "r+") as file:
                    weights(file)
                parts["model.weights.h5"] = held.getvalue()
            with zipfile.ZipFile(target, "w") as archive:
                for name, content in parts.items():
                    archive.writestr(name, content)

    return prepare


def _edited(text: str, edit: Callable[[Json], None] | None) -> str:
    architecture: Json = json.loads(text)
    if edit is not None:
        edit(architecture)
    return json.dumps(architecture)


def setting(layer: str, key: str, value: Any) -> Callable[[Json], None]:
    """Gives a layer another setting."""

    def edit(architecture: Json) -> None:
        found = next(item for item in architecture["config"]["layers"] if item["config"]["name"] == layer)
        found["config"][key] = value

    return edit


def called(name: str, old: str = "c1") -> Callable[[Json], None]:
    """Gives a layer another name, wherever it stands."""

    def edit(architecture: Json) -> None:
        text = json.dumps(architecture).replace(json.dumps(old), json.dumps(name))
        architecture.clear()
        architecture.update(json.loads(text))

    return edit


def quantized_by(layer: str, key: str, **settings: Any) -> Callable[[Json], None]:
    """Changes numbers of a layer's quantizer."""

    def edit(architecture: Json) -> None:
        found = next(item for item in architecture["config"]["layers"] if item["config"]["name"] == layer)
        found["config"][key]["config"].update(settings)

    return edit


def filled(value: float) -> Callable[[Any], None]:
    """Puts a value into the first weight that a file holds."""

    def weights(file: Any) -> None:
        found: list[Any] = []
        file.visititems(lambda name, item: found.append(item) if getattr(item, "shape", ()) else None)
        kernel = next(item for item in found if len(item.shape) == 4)
        kernel[0, 0, 0, 0] = value

    return weights


def _regrown(shape: tuple[int, ...], kind: str = "f4") -> Callable[[Any], None]:
    """Puts a data set that says it is huge, and holds nothing, in the place of the kernel."""

    def weights(file: Any) -> None:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if len(getattr(item, "shape", ())) == 4 else None)
        del file[found[0]]
        file.create_dataset(found[0], shape, kind, chunks=True)

    return weights


def bomb(name: str, size: int) -> Prepare:
    """A `.keras` file one part of which unpacks to `size` zeros."""

    def prepare(folder: Path) -> None:
        with zipfile.ZipFile(folder / "models" / "own.keras") as archive:
            parts = {part: archive.read(part) for part in archive.namelist() if part != name}
        with zipfile.ZipFile(folder / "bad.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in parts.items():
                archive.writestr(part, content)
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(size >> 24):
                    file.write(bytes(1 << 24))

    return prepare


#: note: (what is changed, what must be said)
ARCHITECTURES: dict[str, tuple[Callable[[Json], None], str]] = {
    "10^9 filters": (setting("c1", "filters", 10**9), "layer 'c1': filters=1000000000; at most"),
    "10^8 units": (setting("logits", "units", 10**8), "layer 'logits': with its weights of shape"),
    "10^30 units": (setting("logits", "units", 10**30), "layer 'logits': units=1000"),
    "-1 units": (setting("logits", "units", -1), "layer 'logits': Received an invalid value for `units`"),
    "huge kernel": (setting("c1", "kernel_size", [60000, 60000]), "c1"),
    "huge input": (
        setting("image", "batch_input_shape", [None, 10**6, 10**6, 1]),
        "layer 'image': batch_input_shape=[None, 1000000, 1000000, 1] has more than",
    ),
    "kernel of 10^20 bits": (
        quantized_by("c1", "kernel_quantizer", bits=HUGE),
        f"layer 'c1': quantized_bits has bits={HUGE}; allowed: 1 to 64",
    ),
    "kernel of -10^20 integer bits": (
        quantized_by("c1", "kernel_quantizer", integer=-HUGE),
        "integer=-99999999999999999999; allowed: -64 to 64",
    ),
    "bias of 0 bits": (quantized_by("logits", "bias_quantizer", bits=0), "layer 'logits': quantized_bits has bits=0"),
    "text of 10^20 bits": (
        setting("act", "activation", f"quantized_relu({HUGE}, 0)"),
        f"layer 'act': quantized_relu has bits={HUGE}; allowed: 1 to 64",
    ),
    "text of 10^4000 bits": (setting("act", "activation", f"quantized_relu({'9' * 4000}, 0)"), "layer 'act'"),
    "text that calculates": (
        setting("act", "activation", "quantized_relu(9**9**9, 0)"),
        "layer 'act': quantized_relu has bits=9**9",
    ),
    "text of a huge text": (
        setting("act", "activation", "quantized_relu(6, 'x' * 10**10)"),
        "layer 'act': quantized_relu has integer='x'",
    ),
    "po2 of 60 bits": (setting("act", "activation", "quantized_relu_po2(60)"), "quantized_relu_po2 has bits=60"),
}
#: Names that TensorFlow forbids, and those that C++ forbids.
RENAMED = ("c 1", "größe", "a:0", "_c", "1 + 1", "x" * 70 + "!", "c1\n", "<script>", "$(touch hacked)", "c1\0")
REFUSED = ("c-1", "a.b", "1c", "int")


def contents() -> Iterator[Check]:
    """Model files whose contents are hostile."""
    for kind in FORMATS:
        own = ("generate", "--model", f"bad.{kind}")
        for note, (edit, told) in ARCHITECTURES.items():
            yield Check("contents", own, told, prepare=damaged(kind, edit), note=note)
        for value in (float("nan"), float("inf"), float("-inf")):
            told = "layer c1 has weights that are not finite"
            yield Check("contents", own, told, prepare=damaged(kind, weights=filled(value)), note=f"weight {value}")
        for shape, numbers in (((10**6, 10**6, 1, 1), "f4"), ((10**8,), "S1000"), ((3, 3, 1, 2), "S100000000")):
            prepare = damaged(kind, weights=_regrown(shape, numbers))
            yield Check("contents", own, f"bad.{kind}", prepare=prepare, note=f"{shape} of {numbers}")
        for name in RENAMED:
            prepare = damaged(kind, called(name))
            yield Check("contents", own, "is now", (0,), prepare=prepare, note=f"layer {name[:20]!a}")
        for name in REFUSED:
            prepare = damaged(kind, called(name))
            yield Check("contents", own, "the name cannot be used", prepare=prepare, note=f"layer {name[:20]!a}")
    for part, size in (("config.json", 3 << 30), ("metadata.json", 1 << 30), ("model.weights.h5", 3 << 30)):
        told = f"{part} unpacks to {size} bytes"
        yield Check("contents", ("generate", "--model", "bad.keras"), told, prepare=bomb(part, size), note=part)
    for text in (f"model.hidden=[{10**9}]", f"model.filters=[{10**9}, 4]", "model.hidden=[100000, 100000]"):
        yield Check("contents", ("run", "--set", text), "model")
    for text in (
        f"quantization.weight_bits={HUGE}",
        f"quantization.activation_bits={HUGE}",
        f"model.kernel_size={HUGE}",
    ):
        yield Check("contents", ("run", "--set", text), text.split("=")[0])


if __name__ == "__main__":
    write_originals(Path(sys.argv[1]))
