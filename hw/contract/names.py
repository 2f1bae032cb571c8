"""Names that become C++ names and file names."""

from __future__ import annotations

import re

from qmodels.errors import UserError

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: `input` is hls4ml's own; the rest would not compile as C++ names.
RESERVED = frozenset(
    "input output auto bool break case catch char class const continue default delete do double else enum explicit "
    "export extern false float for friend goto if inline int long mutable namespace new operator private protected "
    "public register return short signed sizeof static struct switch template this throw true try typedef typename "
    "union unsigned using virtual void volatile while main model nnet result".split()
)


def is_free_name(name: str) -> bool:
    """Whether a layer may have this name."""
    return _IDENTIFIER.fullmatch(name) is not None and name not in RESERVED


def name_problem(name: str) -> str:
    """What to say of a name that is not free."""
    return (
        f"layer name {name!r} cannot be used: hls4ml makes it a C++ name; allowed: a letter, then letters, "
        f"digits and _, and none of the reserved words ('input', C++ keywords)"
    )


def check_layer_name(name: str) -> None:
    """Raise UserError for a layer name that hls4ml cannot use."""
    if not is_free_name(name):
        raise UserError(name_problem(name))
