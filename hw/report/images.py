"""Attacked inputs for a page: small images as PNG data URIs, enlarged pixel by pixel; other inputs as lines."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw.report.plots import drawn, finish, line_style
from hw.report.table import shown

SIDE = 112  # pixels, at least


def stored_codes(codes: str, shape: list[int], dtype: str = "uint8") -> NDArray[Any]:
    """Codes that were kept in base64, in the shape of the model's input."""
    return np.frombuffer(base64.b64decode(codes), np.dtype(dtype)).reshape(shape)


def as_image(codes: NDArray[Any]) -> NDArray[np.uint8] | None:
    """A grey (H, W) or colour (H, W, 3) image; None when the inputs are no image (flat data, odd channels)."""
    if codes.dtype != np.uint8:
        return None
    image = codes[..., 0] if codes.ndim == 3 and codes.shape[2] == 1 else codes
    return image if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3) else None


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as a PNG that a browser shows without asking anyone."""
    factor = max(1, ceil(SIDE / max(image.shape[:2])))
    return "data:image/png;base64," + base64.b64encode(png(image.repeat(factor, 0).repeat(factor, 1))).decode()


def png(image: NDArray[np.uint8]) -> bytes:
    """8-bit grey or RGB as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return file.getvalue()


def _named(label: Any, names: list[str]) -> Any:
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


def line_drawing(clean: NDArray[Any], attacked: NDArray[Any], step: float | Sequence[float]) -> str:
    """An input before and after, value by value, as an SVG element; several channels one after the other.

    `step`: value of a grid step, one or that of every number.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (name, codes) in enumerate((("clean", clean), ("attacked", attacked))):
            values = codes.astype(np.float64).ravel() * np.asarray(step)
            style = line_style(number) | ({"marker": ""} if codes.size > 40 else {"markersize": 3.0})
            axes.plot(range(len(values)), values, label=name, **style)
        axes.set(xlabel="input number", ylabel="value")
        finish(axes)

    return drawn(draw, (3.2, 1.9))


def example_cards(examples: Any) -> list[dict[str, Any]]:
    """One card per stored example: the input before and after, what is true, and what every victim answered."""
    if not examples:
        return []
    task = examples.get("task", "classes")
    return [_card(examples, sample, task) for sample in examples["samples"]]


def _card(examples: Any, sample: Any, task: str) -> dict[str, Any]:
    names = examples.get("labels") or []
    shape, dtype = examples["shape"], examples.get("dtype", "uint8")
    clean, attacked = (stored_codes(sample[which], shape, dtype) for which in ("clean", "attacked"))
    images = [image for image in map(as_image, (clean, attacked)) if image is not None]
    right = sample.get("right") or [[answer == sample["label"] for answer in both] for both in sample["answers"]]
    answers = [
        (victim, [(_told(_named(answer, names)), fine) for answer, fine in zip(both, marks, strict=True)])
        for victim, both, marks in zip(examples["victims"], sample["answers"], right, strict=True)
    ]
    return {
        "index": sample["index"],
        "title": _title(_named(sample["label"], names), task),
        "changes": sample.get("changes", []),
        "images": [data_uri(image) for image in images],
        "drawing": "" if images else line_drawing(clean, attacked, examples.get("step", 1 / 256)),
        "heads": {"regression": "outputs", "anomaly": "score"}.get(task, "answers"),
        "answers": answers,
    }


def _title(label: Any, task: str) -> str:
    if task == "regression":
        return f"true value {shown(label)}"
    if task == "anomaly":
        return "anomaly" if label else "normal input"
    return f"true class {label}"


def _told(answer: Any) -> str:
    """A class, or numbers: of many outputs the first four."""
    if not isinstance(answer, list):
        return str(answer)
    return shown(answer[:4]) + (", …" if len(answer) > 4 else "")
