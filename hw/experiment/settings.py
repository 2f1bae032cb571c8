"""Settings: dotted config keys with values, such as `mapping.mu` -> 15, and how they change a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hw.tools.plain_yaml import read_yaml
from qmodels.errors import UserError

Settings = Mapping[str, Any]


def merge(raw: Settings, settings: Settings, origin: str = "--set") -> dict[str, Any]:
    """A copy of a plain config, changed by settings; sections that they need are added.

    Args:
        raw: sections within sections, as YAML reads them.
        settings: in the order in which they apply.
        origin: where the settings were written, for messages.

    Raises:
        UserError: a key goes through a value that is no section.
    """
    merged = copy.deepcopy(dict(raw))
    for key, value in settings.items():
        *parents, leaf = key.split(".")
        if not all(part.strip() for part in (*parents, leaf)):
            raise UserError(f"{origin} {key!r}: has an empty part; keys look like section.key")
        node = merged
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{origin} {key!r}: {parent!r} is a value, not a section")
        node[leaf] = copy.deepcopy(value)
    return merged


def abridged(value: Any) -> str:
    """A value as Python writes it, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """What you typed after --set: `key=value` words, values as in YAML; of a key given twice the last counts.

    Raises:
        UserError: a word is not of that form, or its value is not plain YAML.
    """
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {abridged(word)}: must look like section.key=value")
        settings.pop(key.strip(), None)  # it applies where it was given last
        try:
            settings[key.strip()] = read_yaml(text)
        except ValueError as error:
            raise UserError(f"--set {abridged(word)}: not a plain YAML value ({error})") from None
    return settings
