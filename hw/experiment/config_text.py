"""From YAML text to a checked config; what is wrong is said by key, with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from hw.experiment.settings import Settings, abridged, merge
from hw.tools.plain_yaml import read_yaml
from qmodels.attacks import Attack, attack_class
from qmodels.errors import UserError, allowed_names

Config = TypeVar("Config", bound=BaseModel)


class Section(BaseModel):
    """A part of the config: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_config(
    root: type[Config], text: str, where: str, settings: Settings | None = None, origin: str = "--set"
) -> Config:
    """A config of class `root` from YAML text, changed by settings and checked.

    Raises:
        UserError: as for `load_config`; `where` is what it calls the source.
    """
    settings = settings or {}
    raw = parse_mapping(root, text, where)
    told = origin.rstrip(":")

    def source(key: str) -> str:
        """Where a key was written: among the settings, in the file, or (a section) in both."""
        inside = [own for own in settings if own.startswith(f"{key}.")]
        if any(key == own or key.startswith(f"{own}.") for own in settings) or (inside and not _holds(raw, key)):
            return told
        return f"{where}, with {told} {', '.join(inside)}" if inside else where

    return check_config(root, merge(raw, settings, origin), source)


def parse_mapping(root: type[BaseModel], text: str, where: str) -> dict[str, Any]:
    """The plain mapping of YAML text that should hold a `root`; UserError if it is none."""
    try:
        raw = read_yaml(text)
    except ValueError as error:
        raise UserError(f"{where}: not plain YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must be a mapping of sections ({', '.join(root.model_fields)})")
    return raw


def check_config(root: type[Config], raw: dict[str, Any], where: Callable[[str], str]) -> Config:
    """A config of class `root` from a plain mapping; UserError as for `load_config`.

    `where` tells, for messages, in which source a dotted key was written.
    """
    try:
        config = root.model_validate(raw)
    except ValidationError as error:
        lines = (f"{where('.'.join(map(str, item['loc'])))}: {_explain(item, root, raw)}" for item in error.errors())
        raise UserError("\n".join(lines)) from None
    for key in _not_finite(config.model_dump()):
        raise UserError(f"{where(key)}: {key}: must be a finite number")
    return config


def _holds(raw: Any, key: str) -> bool:
    """Whether a dotted key is in a plain mapping."""
    for part in key.split("."):
        if not isinstance(raw, dict) or part not in raw:
            return False
        raw = raw[part]
    return True


def read_text(path: Path) -> str:
    """A text file's content; UserError when there is none."""
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise UserError(f"{path}: is no file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({error})") from None


def _explain(item: Any, root: type[BaseModel], raw: Any) -> str:
    location = item["loc"]
    key = ".".join(str(part) for part in location)
    owner = _owner(location, root, raw)
    if item["type"] == "extra_forbidden":
        known = list(owner.model_fields) if owner else []
        return f"{key}: unknown key" + allowed_names(str(location[-1]), known)
    got = abridged(item["input"])
    if item["type"] == "unknown_attack":
        return f"{key}.kind: {item['msg']}"
    if item["type"] == "attack_without_kind":
        return f"{key}: {item['msg']}; got {got}"
    if item["type"] == "literal_error":
        return f"{key}: {got} is not allowed" + allowed_names(str(item["input"]), _alternatives(location, root, raw))
    if item["type"] == "value_error":  # our own validators say what they got
        told: str = item["msg"].removeprefix("Value error, ")
        return f"{key}: {told}" if key else told
    message = _PLAIN.get(item["type"], item["msg"][:1].lower() + item["msg"][1:])
    return f"{key}: {message}; got {got}" + _field_hint(location, owner)


#: pydantic's words for these name Python types, which mean nothing to you as you write YAML.
_PLAIN = {
    "model_type": "must be a section of `key: value` lines",
    "model_attributes_type": "must be a section of `key: value` lines",
    "dict_type": "must be a section of `key: value` lines",
    "tuple_type": "must be a list, as in [a, b]",
    "missing": "is missing",
}


def _alternatives(location: Sequence[Any], root: type[BaseModel], raw: Any) -> list[str]:
    while location and isinstance(location[-1], int):  # an item of a list
        location = location[:-1]
    owner = _owner(location, root, raw)
    field = owner.model_fields.get(str(location[-1])) if owner else None
    return [str(value) for value in _literals(field.annotation)] if field else []


def _literals(annotation: Any) -> tuple[Any, ...]:
    """The values of the first Literal in an annotation, bare, optional or in a list."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for inner in get_args(annotation) if (found := _literals(inner))), ())


def _not_finite(value: Any, key: str = "") -> Iterator[str]:
    """Keys of NaN and infinite numbers; an epsilon may be infinite and has its own check."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, item in items:
        if name not in ("epsilons_lsb", "epsilon_lsb", "epsilon"):
            yield from _not_finite(item, f"{key}.{name}" if key else str(name))


def _owner(location: Sequence[Any], root: type[BaseModel], raw: Any) -> type[BaseModel] | None:
    """The model class whose key is the last part of `location`; which attack it is, the raw mapping tells."""
    node: Any = root
    for part in location[:-1]:
        raw = _inside(raw, part)
        if not isinstance(part, int):
            field = getattr(node, "model_fields", {}).get(part)
            if field is None:
                return None
            node = _section_in(field.annotation)
        if node is Attack and isinstance(raw, dict):
            node = attack_class(str(raw.get("kind"))) or Attack
    return node if isinstance(node, type) and issubclass(node, BaseModel) else None


def _inside(raw: Any, part: Any) -> Any:
    """An item of a raw config; None where there is none."""
    try:
        return raw[part]
    except (KeyError, IndexError, TypeError):
        return None


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, bare, optional or in a list; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_in(inner))), None)


def _field_hint(location: Sequence[Any], owner: type[BaseModel] | None) -> str:
    field = owner.model_fields.get(str(location[-1])) if owner and location else None
    return f" ({field.description})" if field and field.description else ""
