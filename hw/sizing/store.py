"""Results that survive kill -9 at any moment: SQLite with a write-ahead log, one transaction a batch of results.

A result is keyed by the digest of its question (design, stage, the stage's settings, version of the scoring), so that
it can neither be lost, nor asked again, nor taken for the answer to another question. Any number of processes may
write. The journal notes every computation that ended, so that work done twice would show. The adversarial examples
that an answer brought are kept in the same transaction, with their digest: they are the pool.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmodels.digest import digest
from qmodels.errors import UserError
from qmodels.interrupts import raise_if_swallowed

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, title TEXT NOT NULL, error TEXT, value TEXT NOT NULL,
    seconds REAL NOT NULL, worker TEXT NOT NULL, finished TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS examples (
    key TEXT PRIMARY KEY, digest TEXT NOT NULL, content BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, failed INTEGER NOT NULL, worker TEXT NOT NULL
);
"""
_MEND = "move it away and its points are computed again, or choose another --out"
_PATIENCE = 60.0  # seconds to wait for another writer


@dataclass(frozen=True)
class Answer:
    """One finished or failed piece of work."""

    key: str
    stage: str
    title: str
    value: dict[str, Any]
    error: str | None
    seconds: float  # of processor time
    worker: str = ""


class Store:
    """The results of one sizing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; everything recorded is in it already."""
        self._connection.close()

    def __del__(self) -> None:
        """Python 3.13 complains of connections that nobody closed, also of one whose file could not be read."""
        with contextlib.suppress(AttributeError):  # it was never opened
            self._connection.close()

    def record(self, *records: Answer, examples: Mapping[str, bytes] | None = None) -> None:
        """Keep results. A finished one is never replaced; a failed one is, by a later attempt.

        Args:
            records: all of them are kept, or none.
            examples: adversarial examples by the key of the result that they belong to.
        """
        with self._explained(), self._transaction():
            for record in records:
                self._record(record)
            for key, content in (examples or {}).items():
                row = (key, digest(content), content)
                self._connection.execute("INSERT OR IGNORE INTO examples (key, digest, content) VALUES (?, ?, ?)", row)

    def examples(self, key: str) -> bytes | None:
        """The examples that a result brought; None where it brought none.

        Raises:
            UserError: they are not what was kept.
        """
        for told, content in self._query("SELECT digest, content FROM examples WHERE key = ?", key):
            if not isinstance(content, bytes) or digest(content) != told:
                raise UserError(f"{self.path}: adversarial examples were changed; {_MEND}")
            return content
        return None

    def _record(self, record: Answer) -> None:
        row = (record.key, record.stage, record.title, record.error, json.dumps(record.value, allow_nan=False))
        self._connection.execute(
            "INSERT INTO results (key, stage, title, error, value, seconds, worker) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET error = excluded.error, value = excluded.value, "
            "seconds = excluded.seconds, worker = excluded.worker WHERE results.error IS NOT NULL",
            (*row, record.seconds, record.worker),
        )
        self._connection.execute(
            "INSERT INTO journal (key, failed, worker) VALUES (?, ?, ?)",
            (record.key, record.error is not None, record.worker),
        )

    def find(self, key: str) -> Answer | None:
        """The record of a question, or None."""
        found = self._query("SELECT key, stage, title, value, error, seconds, worker FROM results WHERE key = ?", key)
        return self._read(found[0]) if found else None

    def records(self) -> list[Answer]:
        """Everything, by key."""
        found = self._query("SELECT key, stage, title, value, error, seconds, worker FROM results ORDER BY key")
        return [self._read(row) for row in found]

    def forget_failed(self) -> int:
        """Forget failed records, so that they are tried again; how many."""
        with self._explained(), self._transaction():
            return self._connection.execute("DELETE FROM results WHERE error IS NOT NULL").rowcount

    def forget(self, key: str) -> None:
        """Forget one record, because what it tells of is gone (a model file)."""
        with self._explained(), self._transaction():
            self._connection.execute("DELETE FROM results WHERE key = ?", (key,))
            self._connection.execute("DELETE FROM journal WHERE key = ?", (key,))

    def computed_twice(self) -> int:
        """How many successful computations there were beyond one a question: 0 unless something is wrong."""
        found = self._query("SELECT COUNT(*) - COUNT(DISTINCT key) FROM journal WHERE NOT failed")
        return int(found[0][0])

    def _read(self, row: tuple[Any, ...]) -> Answer:
        try:
            return _record(row)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{self.path}: a result was changed ({error}); {_MEND}") from None

    def _query(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            raise_if_swallowed()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(
                f"{self.path}: the store of results cannot be used ({error}); if it is damaged, {_MEND}"
            ) from None


def _record(row: tuple[Any, ...]) -> Answer:
    key, stage, title, text, error, seconds, worker = row
    value = json.loads(text)
    if not (isinstance(value, dict) and isinstance(seconds, float) and isinstance(error, str | None)):
        raise ValueError(f"{title}: {stage} has values of wrong types")
    return Answer(key, stage, title, value, error, seconds, worker)
