"""A tiny regression and a tiny auto-encoder in QKeras, trained for a moment, and their data: 4x4 pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from helpers.models import weight_quantizers

from qmodels.runtime import runtime, set_seed
from qmodels.storage import save_model


def once(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """Trained by the first call of a session; later ones write the same bytes."""
    kept: dict[str, bytes] = {}

    @wraps(write)
    def copied(folder: Path) -> None:
        if not kept:
            write(folder)
            kept.update({name: (folder / name).read_bytes() for name in ("data.npz", "own.keras")})
        for name, content in kept.items():
            (folder / name).write_bytes(content)

    return copied


@once
def write_regression(folder: Path) -> None:
    """`data.npz` and `own.keras`: how bright the upper and the left half of a picture are."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 400), ("test", 40)):
        shades = rng.uniform(0.2, 1.0, (count, 4, 1)) * rng.uniform(0.2, 1.0, (count, 1, 4))
        pictures = (255 * shades).astype(np.uint8)
        halves = np.stack([pictures[:, :2].mean(axis=(1, 2)), pictures[:, :, :2].mean(axis=(1, 2))], axis=1)
        arrays |= {f"x_{part}": pictures, f"y_{part}": halves / 256}
    np.savez(folder / "data.npz", **arrays)
    save_model(_trained([8], 2, arrays["x_train"], arrays["y_train"]), folder / "own.keras")


@once
def write_autoencoder(folder: Path) -> None:
    """`data.npz` and `own.keras`: rank-one pictures are normal; in the test data every second picture is noise."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 600), ("test", 60)):
        y = np.zeros(count, int) if part == "train" else np.arange(count) % 2
        shades = rng.uniform(0.3, 1.0, (count, 4, 1)) * np.array([1.0, 0.7, 0.5, 0.2])
        pictures = np.where(y[:, None, None] == 1, rng.uniform(0.0, 1.0, (count, 4, 4)), shades)
        arrays |= {f"x_{part}": (255 * pictures).astype(np.uint8), f"y_{part}": y}
    np.savez(folder / "data.npz", **arrays)
    flat = arrays["x_train"].reshape(-1, 16) / 256
    save_model(_trained([6], 16, arrays["x_train"], flat, (4, 4, 1)), folder / "own.keras")


def _trained(hidden: list[int], outputs: int, x: Any, y: Any, shape: tuple[int, ...] | None = None) -> Any:
    q, keras = runtime().qkeras, runtime().keras
    set_seed(0)
    image = keras.Input((4, 4, 1), name="image")
    z = keras.layers.Flatten(name="flatten")(q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image))
    for number, width in enumerate(hidden, start=1):
        z = q.QDense(width, name=f"fc{number}", **weight_quantizers(8))(z)
        z = q.QActivation("quantized_relu(8,2)", name=f"relu{number}")(z)
    z = q.QDense(outputs, name="out", **weight_quantizers(8))(z)
    if shape is not None:
        z = keras.layers.Reshape(shape, name="picture")(z)
        y = y.reshape(-1, *shape)
    model = keras.Model(image, z, name="own")
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x[..., None] / np.float32(256), y, epochs=30, batch_size=50, verbose=0)
    return model


@once
def write_binary(folder: Path) -> None:
    """`data.npz` and `own.keras`: one logit tells whether the upper half of a picture is brighter."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 400), ("test", 40)):
        pictures = rng.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        y = (pictures[:, :2].mean(axis=(1, 2)) > pictures[:, 2:].mean(axis=(1, 2))).astype(int)
        arrays |= {f"x_{part}": pictures, f"y_{part}": y}
    np.savez(folder / "data.npz", **arrays)
    wanted = np.where(arrays["y_train"] == 1, 0.5, -0.5)
    save_model(_trained([8], 1, arrays["x_train"], wanted), folder / "own.keras")
