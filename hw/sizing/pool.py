"""Adversarial examples that all designs of a sizing share: what fooled one design is tried on the others by bitsim.

Examples that fool a design lower an upper bound of its worst case. They come in generations: what a round of attacks
found is tried on other designs before the next round is chosen, so that nothing depends on who computed what when.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmodels.digest import digest
from qmodels.errors import ARCHIVE_ERRORS
from qmodels.grid import Codes

Mask = NDArray[np.bool_]  # (N,), of the validation images that are attacked
Rows = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Adversarial images, and which validation image each was made from."""

    rows: Rows  # (M,)
    x: Codes  # (M, ...)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """Of the content."""
        return digest(self.rows, str(self.x.shape), str(self.x.dtype), self.x)[:32]

    def pack(self) -> bytes:
        """As bytes, compressed."""
        file = io.BytesIO()
        np.savez_compressed(file, rows=self.rows, x=self.x)
        return file.getvalue()

    @classmethod
    def unpack(cls, content: bytes) -> Examples:
        """Inverse of `pack`.

        Raises:
            ValueError: these bytes are no examples.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                rows, x = stored["rows"], stored["x"]
        except (OSError, KeyError, ValueError, *ARCHIVE_ERRORS) as error:
            raise ValueError(f"no adversarial examples: {error}") from None
        if rows.ndim != 1 or rows.dtype != np.int32 or len(rows) != len(x) or not np.issubdtype(x.dtype, np.integer):
            raise ValueError("no adversarial examples: wrong shapes or types")
        return cls(rows, x)

    def standing(self, fallen: Mask) -> Examples:
        """Those made from images that have not fallen."""
        kept = ~fallen[self.rows]
        return Examples(self.rows[kept], self.x[kept])


class Pool:
    """The generations so far, of one data set's validation images."""

    def __init__(self) -> None:
        self.generations: list[Examples] = []
        self.names: list[str] = []  # their digests
        self._seen: set[tuple[int, bytes]] = set()

    def __len__(self) -> int:
        return sum(map(len, self.generations))

    def add(self, found: Iterable[Examples]) -> Examples | None:
        """A new generation of what is not in the pool yet, in the order given; None where all of it is."""
        rows, images = [], []
        for examples in found:
            for row, image in zip(examples.rows.tolist(), examples.x, strict=True):
                if (row, image.tobytes()) not in self._seen:
                    self._seen.add((row, image.tobytes()))
                    rows.append(row)
                    images.append(image)
        if not rows:
            return None
        self.generations.append(Examples(np.array(rows, np.int32), np.stack(images)))
        self.names.append(self.generations[-1].digest)
        return self.generations[-1]


def joined(parts: Sequence[Examples]) -> Examples:
    """All of them; there must be one."""
    return Examples(np.concatenate([part.rows for part in parts]), np.concatenate([part.x for part in parts]))


def pack_mask(mask: Mask) -> str:
    """A mask as hexadecimal digits."""
    return np.packbits(mask).tobytes().hex()


def unpack_mask(text: str, count: int) -> Mask:
    """Inverse of `pack_mask`; ValueError where the text is of another length."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    if len(bits) != -(-count // 8) * 8:
        raise ValueError(f"{len(bits)} bits for {count} images")
    return bits[:count].astype(bool)
