"""Names that become C++ names and file names."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain, count

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: C++14's keywords and alternative tokens, and the macros that the generated files see.
_CPP = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const "
    "const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern "
    "false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or "
    "or_eq private protected public register reinterpret_cast return short signed sizeof static static_assert "
    "static_cast struct switch template this thread_local throw true try typedef typeid typename typeof union unsigned "
    "using virtual void volatile wchar_t while xor xor_eq "
    "NULL EOF INFINITY NAN assert errno linux stderr stdin stdout unix"
)
#: hls4ml's own types: `input_t`, `result_t`, and `model_default_t` of what has no other.
_HLS4ML = "input model_default result"
#: Functions, namespaces and types around the generated function.
_AROUND = (
    "output model std nnet hls robust_hls ap_int ap_uint ap_fixed ap_ufixed ac_int ac_fixed ac_channel size_t "
    "input_data output_data nextToken trace_data"
)
#: Variables and macros of the generated test benches and of the bridge to Python, on any backend.
_BENCH = (
    "argc argv e i ii j k in pr pos val str offset current cstr fin fpr fout iline pline tb_in tb_out use_random "
    "loaded_weights s_weights_dir get_weights_dir iteration num_iterations predictions RESULTS_LOG NUM_TEST_SAMPLES "
    "CHECKPOINT RANDOM_FRAMES RTL_SIM CCS_MAIN CCS_RETURN"
)
#: No layer may have these names.
RESERVED = frozenset(f"{_CPP} {_HLS4ML} main nnet".split())
#: The model's input and the project become variables and functions: not these either.
_RESERVED_OUTSIDE = RESERVED | frozenset(f"{_AROUND} {_BENCH}".split())
#: What hls4ml appends to a layer's name for its types, beside the layer's own `NAME_t`.
PARTS = ("weight", "bias", "accum", "table")
#: hls4ml's numbered types: of two types by one name it silently keeps the first.
_NUMBERED = re.compile(r"(layer|weight|bias|slope|shift)\d+")
#: Its numbered variables and structs.
_NUMBERED_OUTSIDE = re.compile(r"([wbsz]|\w*config|layer|weight|bias|slope|shift|input)\d+(_\w*)?")


def is_free_name(name: str, *, inside: bool = False) -> bool:
    """Whether a layer or a project may have this name.

    Args:
        name: of a layer, or of the function that the accelerator becomes.
        inside: a layer that is not the model's input: its name is only the first part of C++ names.
    """
    reserved, numbered = (RESERVED, _NUMBERED) if inside else (_RESERVED_OUTSIDE, _NUMBERED_OUTSIDE)
    return _IDENTIFIER.fullmatch(name) is not None and name not in reserved and numbered.fullmatch(name) is None


#: What a name may be.
NAME_RULE = (
    "a letter, then letters, digits and _, and none of the reserved words ('input', C++ keywords, names of the "
    "generated test bench, hls4ml's own such as layer2 and w2)"
)


def name_problem(name: str) -> str:
    """What to say of a name that is not free."""
    return f"layer name {name!r} cannot be used: hls4ml makes it a C++ name; allowed: {NAME_RULE}"


def free_name(wish: str, taken: Collection[str], *, inside: bool = True) -> str:
    """The name nearest to `wish` that a layer may have.

    Args:
        wish: any text.
        taken: names of the other layers; neither they nor the types that hls4ml names after them are taken again.
        inside: a layer that is not the model's input.
    """
    clean = re.sub(r"[^A-Za-z0-9_]", "_", wish)
    clean = clean if re.match(r"[A-Za-z]", clean) else f"layer_{clean}".rstrip("_")
    numbered = (f"own_{clean}_{number}" for number in count(2))
    return next(
        name for name in chain((clean, f"{clean}_layer", f"own_{clean}"), numbered) if _fits(name, taken, inside)
    )


def _fits(name: str, taken: Collection[str], inside: bool) -> bool:
    types = {f"{other}_{part}" for other in taken for part in PARTS}
    own = {f"{name}_{part}" for part in PARTS}
    return is_free_name(name, inside=inside) and name not in taken and name not in types and own.isdisjoint(taken)
