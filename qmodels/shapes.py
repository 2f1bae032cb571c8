"""JSON of ours that is read again: somebody may have edited it, so it must have its shape.

Keys that we do not read may hold anything; those that we read have their types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from qmodels.errors import UserError
from qmodels.storage import read_json


class Part(BaseModel):
    """An object of a JSON file."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Strength = Annotated[float, Field(ge=0.0)]
Record = dict[str, Any]


def read_stored(path: Path, shape: Any) -> Any:
    """What a JSON file of ours holds, as plain values.

    Args:
        path: of the file.
        shape: a `Part`, or a type of such.

    Raises:
        UserError: it is missing, no JSON, or was edited: names the first key that is wrong, and what it must be.
    """
    plain = read_json(path)
    check_shape(shape, plain, str(path))
    return plain


def check_shape(shape: Any, plain: Any, where: str) -> None:
    """Whether what was read has a shape.

    Args:
        shape: a `Part`, or a type of such.
        plain: values as JSON has them.
        where: the file's name, for the message.

    Raises:
        UserError: names the first key that is wrong, and what it must be.
    """
    try:
        TypeAdapter(shape).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where.removesuffix(':')}: {_key(first['loc'])}{_must(first)}") from None


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and not part.endswith("Part"):  # not the name of one of several types
            text += f".{part}" if text else part
    return f"{text} " if text else ""


def _must(error: Any) -> str:
    limits = error.get("ctx", {})
    words = {
        "missing": "is missing",
        "float_type": "must be a number",
        "int_type": "must be a whole number",
        "string_type": "must be a text",
        "bool_type": "must be true or false",
        "list_type": "must be a list",
        "dict_type": "must be an object",
        "model_type": "must be an object",
        "finite_number": "must be a finite number",
        "greater_than_equal": f"must be {limits.get('ge')} or more",
        "greater_than": f"must be more than {limits.get('gt')}",
        "less_than_equal": f"must be {limits.get('le')} or less",
        "less_than": f"must be less than {limits.get('lt')}",
        "too_short": f"must have {limits.get('min_length')} items or more",
        "too_long": f"must have {limits.get('max_length')} items or less",
        "value_error": str(error["msg"]).removeprefix("Value error, "),
    }
    return words.get(error["type"], str(error["msg"]))
