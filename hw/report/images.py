"""Small images as PNG data URIs, enlarged pixel by pixel."""

from __future__ import annotations

import base64
import io
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 112  # pixels, at least


def stored_image(pixels: str, shape: list[int]) -> NDArray[np.uint8] | None:
    """A grey (H, W) or colour (H, W, 3) image; None when the inputs are no image (flat data, odd channels).

    Args:
        pixels: one byte per input, in base64.
        shape: of the model's input.
    """
    image = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(shape)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
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


def _named(label: int, names: list[str]) -> int | str:
    return names[label] if 0 <= label < len(names) else label


def example_cards(examples: Any) -> list[dict[str, Any]]:
    """One card per stored example: both images, the true label, and what every victim answered."""
    if not examples:
        return []
    cards, names = [], examples.get("labels") or []
    for sample in examples["samples"]:
        pictures = [sample[which] for which in ("clean", "attacked") if which in sample]
        pair = [stored_image(pixels, examples["shape"]) for pixels in pictures]
        cards.append(
            {
                "index": sample["index"],
                "label": _named(sample["label"], names),
                "changes": sample.get("changes", []),
                "images": [data_uri(image) for image in pair if image is not None],
                "answers": [
                    (victim, [(_named(answer, names), answer == sample["label"]) for answer in answers])
                    for victim, answers in zip(examples["victims"], sample["answers"], strict=True)
                ],
            }
        )
    return cards
