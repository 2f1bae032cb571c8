"""hls4ml's own YAML configuration, read without running anything, as settings of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from qmodels.errors import UserError

_STRATEGIES = {"latency": "latency", "resource": "resource"}
#: hls4ml's key -> ours. Precisions are missing on purpose: bit-exact types follow from the model.
_TOP = {
    "Backend": "backend",
    "Part": "part",
    "XilinxPart": "part",
    "IOType": "io_type",
    "ProjectName": "project_name",
    "ClockPeriod": "clock_period_ns",
}


class _PlainLoader(yaml.SafeLoader):
    """hls4ml embeds the model behind a tag of its own, which makes other loaders run code: here it is nothing."""


_PlainLoader.add_multi_constructor("!", lambda loader, suffix, node: None)


def read_hls4ml_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Our `hardware` settings in an hls4ml configuration, and the keys that have no place here.

    Raises:
        UserError: not a readable hls4ml configuration, or one that is not bit-exact.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable hls4ml configuration ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("HLSConfig", {}), dict):
        raise UserError(f"{path}: not an hls4ml configuration (a mapping with Backend, IOType, HLSConfig, ...)")
    if raw.get("BitExact") is False:
        raise UserError(
            f"{path}: BitExact is false: hls4ml would drop QActivation layers and truncate inputs; remove that line"
        )
    settings: dict[str, Any] = {ours: raw[theirs] for theirs, ours in _TOP.items() if raw.get(theirs) is not None}
    board = (raw.get("AcceleratorConfig") or {}).get("Board")
    if board is not None:
        settings["board"] = board
    hls = raw.get("HLSConfig") or {}
    settings |= _of_layer(hls.get("Model") or {})
    named = hls.get("LayerName") or {}
    # hls4ml also lists the activation inside a layer, as `<layer>_linear`: it has nothing to reuse
    inner = {f"{name}_{kind}" for name in named for kind in ("linear", "relu")}
    layers = {name: _of_layer(entry or {}) for name, entry in named.items() if name not in inner}
    settings["layers"] = {name: entry for name, entry in layers.items() if entry}
    return settings, _without_place(raw, hls)


def _of_layer(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if entry.get("ReuseFactor") is not None:
        found["reuse_factor"] = entry["ReuseFactor"]
    strategy = str(entry.get("Strategy", "")).lower()
    if strategy in _STRATEGIES:
        found["strategy"] = strategy
    return found


def _without_place(raw: dict[str, Any], hls: dict[str, Any]) -> list[str]:
    ignored = [key for key in raw if key not in (*_TOP, "HLSConfig", "BitExact", "KerasModel", "OutputDir", "Stamp")]
    entries = {"Model": hls.get("Model") or {}, **(hls.get("LayerName") or {})}
    for name, entry in entries.items():
        ignored += [f"{name}.{key}" for key in entry or {} if key not in ("ReuseFactor", "Strategy", "Trace")]
    return sorted(ignored)
