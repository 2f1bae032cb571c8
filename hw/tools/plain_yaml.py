"""YAML that a person writes: plain values, no key twice, and no more of anything than a config can need."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_MOST_CHARACTERS = 1 << 20
_MOST_NODES = 100_000  # with every alias written out
_MOST_DEPTH = 50
_INT64 = 1 << 63


class PlainLoader(yaml.SafeLoader):
    """Python's plain types only; integers are of 64 bits, and a key that stands twice is an error."""

    def compose_document(self) -> Any:
        """The tree of nodes; small, without loops."""
        root = super().compose_document()
        _size(root, {}, 0)
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys differ."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in seen:
                    raise ValueError(f"{_shown(key)} is given twice, in lines {seen[key.value]} and {line}; keep one")
                seen[key.value] = line
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer of at most 64 bits: longer ones would only fail later, with worse words."""
        if len(node.value) <= 100:
            value = int(super().construct_yaml_int(node))
            if -_INT64 <= value < _INT64:
                return value
        raise ValueError(f"line {node.start_mark.line + 1}: {_shown(node)} is too large a number (64 bits at most)")


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_yaml_int)


def read_yaml(text: str, loader: type[PlainLoader] = PlainLoader) -> Any:
    """What YAML text says.

    Raises:
        ValueError: it is not YAML, or no plain YAML; says why, in one line.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"{len(text):,} characters; a config has at most {_MOST_CHARACTERS:,}")
    try:
        return yaml.load(text, Loader=loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a date such as 2024-99-99
        raise ValueError(" ".join(str(error).split())[:300]) from None


def _size(node: Any, known: dict[int, int], depth: int) -> int:
    """How many nodes there are with aliases written out."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise ValueError(f"line {node.start_mark.line + 1}: contains itself")
        return known[id(node)]
    if depth > _MOST_DEPTH:
        raise ValueError(f"line {node.start_mark.line + 1}: nested too deeply")
    known[id(node)] = 0  # being counted
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    total = 1 + sum(_size(child, known, depth + 1) for child in children)
    if total > _MOST_NODES:
        raise ValueError(f"line {node.start_mark.line + 1}: more than {_MOST_NODES:,} values, aliases written out")
    known[id(node)] = total
    return total


def _shown(node: yaml.ScalarNode) -> str:
    text = repr(node.value)
    return text if len(text) <= 40 else f"{text[:40]}..."
