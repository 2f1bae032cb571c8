"""Layer names that TensorFlow forbids. Keras 3 allows them, so files have them."""

from __future__ import annotations

import re

from qmodels.loading.tree import Json, levels, name_of, rename_layers

#: TensorFlow's rule for names of scopes.
_ALLOWED = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def allow_names(architecture: Json) -> dict[str, str]:
    """Give layers whose name TensorFlow forbids a name that it allows (in place).

    Returns:
        old name -> new name.
    """
    changed: dict[str, str] = {}
    for config in levels(architecture):
        taken = {name_of(layer) for layer in config["layers"]}
        names: dict[str, str] = {}
        for old in sorted(name for name in taken if not _ALLOWED.fullmatch(name)):
            names[old] = _free(re.sub(r"[^A-Za-z0-9_.-]", "_", old), taken | set(names.values()))
        rename_layers(config, names)
        changed |= names
        own = str(config.get("name", "model"))
        if not _ALLOWED.fullmatch(own) and config is architecture["config"]:
            config["name"] = changed[own] = _free(re.sub(r"[^A-Za-z0-9_.-]", "_", own), set())
    return changed


def _free(name: str, taken: set[str]) -> str:
    name = name if name[:1].isalpha() else f"layer{name}"  # hls4ml makes it a C++ name, where no digit comes first
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
