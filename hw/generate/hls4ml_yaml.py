"""hls4ml's own YAML configuration, read without running anything, as settings of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hw.generate.contract.names import is_free_name, name_problem
from hw.tools.plain_yaml import PlainLoader, read_yaml
from qmodels.errors import UserError

_STRATEGIES = {"latency": "latency", "resource": "resource"}
#: hls4ml's key -> ours. Precisions are missing on purpose: bit-exact types follow from the model.
_TOP = {
    "Backend": "backend",
    "XilinxPart": "part",
    "Part": "part",  # the one that hls4ml reads, where both are there
    "IOType": "io_type",
    "ProjectName": "project_name",
    "ClockPeriod": "clock_period_ns",
}
#: Keys without a setting of ours that change no project: not worth a word.
_SILENT = ("HLSConfig", "AcceleratorConfig", "BitExact", "KerasModel", "OutputDir", "Stamp")
#: hls4ml also lists the activation inside a layer, as `<layer>_<activation>`: Keras' names, and QKeras' without the
#: `quantized_` ones.
_ACTIVATIONS = frozenset(
    "linear relu relu6 leaky_relu prelu thresholded_relu elu selu gelu silu swish softplus softsign softmax "
    "exponential sigmoid hard_sigmoid tanh hard_tanh ternary_tanh binary_tanh smooth_sigmoid smooth_tanh "
    "binary ternary stochastic_binary stochastic_ternary bernoulli".split()
)
_KERNELS = {"weight", "depthwise", "pointwise"}

#: What of an entry are types: hls4ml's own, for float models.
TYPE_KEYS = ("Precision", "TableSize")

Entry = dict[Any, Any]


class _Loader(PlainLoader):
    """hls4ml embeds the model behind a tag of its own, which makes other loaders run code: here it is nothing."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def read_hls4ml_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Our `hardware` settings in an hls4ml configuration, and the keys that have no place here.

    Raises:
        UserError: not a readable hls4ml configuration, one that is not bit-exact, or a strategy that we do not have.
    """
    if path.exists() and not path.is_file():  # a pipe would never end
        raise UserError(f"{path}: is no file")
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable hls4ml configuration ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: not an hls4ml configuration (a mapping with Backend, IOType, HLSConfig, ...)")
    try:
        return _read(raw)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_hls4ml_types(path: Path) -> dict[str, Any]:
    """The types in a configuration that `read_hls4ml_yaml` has read, in hls4ml's own form; empty if it has none."""
    hls = read_yaml(path.read_text(encoding="utf-8"), _Loader).get("HLSConfig") or {}
    layers = {str(name): _types_of(entry or {}) for name, entry in (hls.get("LayerName") or {}).items()}
    layers = {name: entry for name, entry in layers.items() if entry}
    found = {"Model": _types_of(hls.get("Model") or {}), "LayerName": layers}
    return {key: entry for key, entry in found.items() if entry}


def _types_of(entry: Entry) -> dict[str, Any]:
    return {key: entry[key] for key in TYPE_KEYS if entry.get(key) is not None}


def _read(raw: Entry) -> tuple[dict[str, Any], list[str]]:
    settings: dict[str, Any] = {
        ours: _value(raw[theirs], theirs) for theirs, ours in _TOP.items() if raw.get(theirs) is not None
    }
    ignored = [str(key) for key in raw if key not in (*_TOP, *_SILENT)]
    board = _section(raw.get("AcceleratorConfig"), "AcceleratorConfig")
    if board.get("Board") is not None:
        settings["board"] = _value(board["Board"], "AcceleratorConfig.Board")
    ignored += [f"AcceleratorConfig.{key}" for key in board if key != "Board"]
    hls = _section(raw.get("HLSConfig"), "HLSConfig")
    ignored += [f"HLSConfig.{key}" for key in hls if key not in ("Model", "LayerName")]
    model = _section(hls.get("Model"), "HLSConfig.Model")
    for key, section in (("BitExact", raw), ("HLSConfig.Model.BitExact", model)):
        if section.get("BitExact") is False:
            raise UserError(
                f"{key} is false: hls4ml would drop QActivation layers and truncate inputs; remove that line"
            )
    settings |= _of_layer(model, "HLSConfig.Model")
    ignored += _unknown("Model", model)
    settings["layers"], of_layers = _layers(_section(hls.get("LayerName"), "HLSConfig.LayerName"), model)
    return settings, sorted(ignored + of_layers)


def _layers(named: Entry, model: Entry) -> tuple[dict[str, Any], list[str]]:
    """Settings of single layers, and what is not taken over of them."""
    found: dict[str, Any] = {}
    ignored: list[str] = []
    usual = model.get("ReuseFactor", 1)
    entries = {name: _section(entry, f"HLSConfig.LayerName.{name}") for name, entry in named.items()}
    for name, entry in entries.items():
        ignored += _unknown(name, entry)
        own, inner = _of_layer(entry, f"HLSConfig.LayerName.{name}"), _is_inner(name, entries)
        if inner and own.pop("strategy", None) is not None:
            ignored.append(f"{name}.Strategy")
        if inner or _has_no_kernel(entry):  # hls4ml writes a factor for all the same, nearly always the model's
            if own.pop("reuse_factor", usual) != usual:
                ignored.append(f"{name}.ReuseFactor")
        if own and not (isinstance(name, str) and is_free_name(name)):
            raise UserError(f"HLSConfig.LayerName: {name_problem(str(name))}")
        if own:
            found[name] = own
    return found, ignored


def _is_inner(name: Any, entries: dict[Any, Entry]) -> bool:
    """Whether an entry is of a part of another layer: its activation, or one half of a separable convolution."""
    for whole, entry in entries.items():
        part = str(name).removeprefix(f"{whole}_")
        if part == str(name):
            continue
        if part.lower() in _ACTIVATIONS or part.startswith("quantized_"):
            return True
        if part in ("depthwise", "pointwise") and "pointwise" in _types(entry):
            return True
    return False


def _has_no_kernel(entry: Entry) -> bool:
    """Whether an entry, as hls4ml writes it, is of an activation, a pooling, a reshape, ..."""
    types = _types(entry)
    return "TableSize" in entry or "table_size" in entry or (bool(types) and not _KERNELS & types)


def _types(entry: Entry) -> set[Any]:
    return set(entry["Precision"]) if isinstance(entry.get("Precision"), dict) else set()


def _of_layer(entry: Entry, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if entry.get("ReuseFactor") is not None:
        found["reuse_factor"] = _value(entry["ReuseFactor"], f"{where}.ReuseFactor")
    strategy = entry.get("Strategy")
    if strategy is not None:
        if str(strategy).lower() not in _STRATEGIES:
            raise UserError(f"{where}.Strategy: {strategy!r} is not offered (allowed: Latency, Resource)")
        found["strategy"] = _STRATEGIES[str(strategy).lower()]
    return found


def _unknown(name: Any, entry: Entry) -> list[str]:
    return [f"{name}.{key}" for key in entry if key not in ("ReuseFactor", "Strategy", "Trace", "BitExact")]


def _section(value: Any, where: str) -> Entry:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a section of `key: value` lines; got {value!r:.100}")
    return value


def _value(value: Any, where: str) -> str | int | float:
    if not isinstance(value, (str, int, float)):
        raise UserError(f"{where}: must be a word or a number (quote what YAML reads as a date); got {value!r:.100}")
    return value
