"""Casts and float conversions against the ap_fixed headers hls4ml ships, compiled once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import hls4ml
import numpy as np
import pytest

from hw.simulate.bitsim.encode import encode
from hw.simulate.bitsim.program import Input, Map, Network, Value
from hw.simulate.bitsim.recipes import Cast, Recipe, ShiftLeft, recipe
from hw.simulate.bitsim.scalars import quantize
from hw.simulate.bitsim.simulator import BitSim
from qmodels.digest import digest
from qmodels.formats import FixedPoint, Overflow, Rounding

CASES, VECTORS = 140, 48


def any_format(rng, widest):
    width = int(rng.integers(1, widest + 1))
    overflow = list(Overflow)[rng.integers(5)]
    # one bit of sign and none of magnitude: WRAP_SM reads bit W - 2
    signed = bool(rng.random() < 0.6)
    if overflow is Overflow.WRAP_SM and (not signed or width < 2):
        overflow = Overflow.WRAP
    integer = int(rng.integers(-6, width + 7))
    return FixedPoint(width, integer, signed, list(Rounding)[rng.integers(7)], overflow)


def raw_vectors(rng, fmt, count):
    """Extremes, ties, and everything in between."""
    span = fmt.raw_max - fmt.raw_min + 1
    drawn = [fmt.raw_min + int(rng.integers(0, 1 << 62)) % span for _ in range(count)]
    small = [min(max(v, fmt.raw_min), fmt.raw_max) for v in range(-4, 6)]
    steps = [fmt.raw_min + (k << int(rng.integers(0, max(1, fmt.width - 1)))) % span for k in range(6)]
    return (small + steps + [fmt.raw_min, fmt.raw_max, fmt.raw_max - 1 if fmt.width > 1 else 0] + drawn)[:count]


def cpp_type(fmt):
    sign = "" if fmt.signed else "u"
    return f"ap_{sign}fixed<{fmt.width},{fmt.integer},AP_{fmt.rounding.value},AP_{fmt.overflow.value}>"


#: Bits go in and out through `V`, the integer inside: bit ranges would be a type more to compile for each width.
PROGRAM = """
#include "ap_fixed.h"
#include <cmath>
#include <cstdio>
template <class T> void show(const T &v) { printf("%llu\\n", (unsigned long long)v.V.to_uint64()); }
template <class A, class B> void cast(const unsigned long long *in, int n) {
    for (int i = 0; i < n; i++) { A a; a.V = in[i]; B b = a; show(b); } }
template <class B> void number(const double *in, int n) { for (int i = 0; i < n; i++) { B b = in[i]; show(b); } }
"""


HEADERS = Path(hls4ml.__file__).parent / "templates" / "vivado" / "ap_types"
#: Digests of the program below with its headers, and of what it printed when g++ 12.2 had compiled it: ten seconds that
#: are spent only when one of them differs, and in the slow test.
SEEN = (
    "4dbfbc6559543e7ef8dd7548a2a5d5e154b1f193120dde1e9aaafd11d65f2b7a",
    "20cbd7eaf4031d6a394e467480639957177f4a3c1a9dd1bf86bc5222a688a2d3",
)


def digest_of_program(body: str) -> str:
    headers = sorted(path for path in HEADERS.rglob("*") if path.is_file())
    return digest(*(path.read_bytes() for path in headers), PROGRAM, body)


def run_cpp(folder: Path, body: str) -> list[int]:
    source = folder / "casts.cpp"
    source.write_text(PROGRAM + "int main() {\n" + body + "return 0; }\n")
    subprocess.run(
        ["g++", "-O0", "-w", "-DNDEBUG", "-std=c++17", f"-I{HEADERS}", str(source), "-o", str(folder / "casts")],
        check=True,
    )
    done = subprocess.run([str(folder / "casts")], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def signed_bits(bits, fmt):
    bits &= (1 << fmt.width) - 1
    return bits - (1 << fmt.width) if bits > fmt.raw_max else bits


def cast_network(source, target):
    """Input on `source`'s grid, cast to `target`, shown as low 30 bits and the rest: exact through doubles."""
    # the input itself is on the grid: its own modes must not touch it
    first = Value(0, "x", (2,), source._replace(rounding=Rounding.TRN, overflow=Overflow.WRAP))
    second = Value(1, "cast", (2,), target)
    whole = FixedPoint(target.width, target.width, target.signed)
    low = Value(2, "low", (2,), FixedPoint(30, 30, False))
    high = Value(3, "high", (2,), FixedPoint(40, 40, True))
    ops = (
        Input(first, 0),
        Map(first, second, recipe(Cast(source, target))),
        Map(second, low, recipe(Cast(whole, low.format))),
        Map(second, high, recipe(Cast(FixedPoint(target.width, target.width - 30, target.signed), high.format))),
    )
    return Network(ops, (first,), (low, high), {})


def drawn_cases():
    """(source, target, integers inside the source, numbers) of every case."""
    rng = np.random.default_rng(20)
    pairs = [(any_format(rng, 52), any_format(rng, 64)) for _ in range(CASES)]
    # every rounding with every overflow, where ties and saturation are common
    pairs += [
        (FixedPoint(10, 5, source_signed), FixedPoint(6, 4, signed, rounding, overflow))
        for rounding in Rounding
        for overflow in Overflow
        for signed in (True, False)
        for source_signed in (True, False)
        if signed or overflow is not Overflow.WRAP_SM
    ][::2]
    vectors = [raw_vectors(rng, a, VECTORS) for a, _ in pairs]
    doubles = [
        np.concatenate(
            [
                rng.normal(size=20) * b.maximum,
                rng.integers(-40, 40, 16) * b.lsb / 4,
                rng.normal(size=8) * 1e-9,
                [0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, 1.7e308, 5e-324],
            ]
        )
        for _, b in pairs
    ]
    return [(a, b, raws, xs) for (a, b), raws, xs in zip(pairs, vectors, doubles, strict=True)]


def program_of(cases):
    body = []
    for a, b, raws, xs in cases:
        bits = ",".join(f"{raw & ((1 << a.width) - 1)}ull" for raw in raws)
        body.append(
            f"{{ const unsigned long long v[] = {{{bits}}}; cast<{cpp_type(a)}, {cpp_type(b)}>(v, {len(raws)}); }}\n"
        )
        numbers = ",".join(float(x).hex().replace("inf", "INFINITY") for x in xs)
        body.append(f"{{ const double v[] = {{{numbers}}}; number<{cpp_type(b)}>(v, {len(xs)}); }}\n")
    return "".join(body)


def compiled(folder, cases):
    """What ap_fixed makes of every case: the casts, the numbers."""
    printed = iter(run_cpp(folder, program_of(cases)))
    return [tuple([signed_bits(next(printed), b) for _ in part] for part in (raws, xs)) for _, b, raws, xs in cases]


@pytest.fixture(scope="module")
def cases():
    return drawn_cases()


@pytest.fixture(scope="module")
def ours(cases):
    """bitsim's kernels on the same."""
    return [(machine_cast(a, b, raws), machine_input(b, xs)) for a, b, raws, xs in cases]


def test_the_scalar_form_is_the_one_of_the_kernels(cases, ours):
    for (a, b, raws, _), (casts, _) in zip(cases, ours, strict=True):
        assert [quantize(raw, a, b) for raw in raws] == casts, (a, b)


@pytest.mark.gxx
def test_casts_and_conversions_from_double_equal_ap_fixed(tmp_path, cases, ours):
    if (digest_of_program(program_of(cases)), digest(repr(ours))) != SEEN:
        check(cases, ours, compiled(tmp_path, cases))


@pytest.mark.gxx
@pytest.mark.slow
def test_what_has_been_seen_is_what_ap_fixed_gives(tmp_path, cases, ours):
    expected = compiled(tmp_path, cases)
    assert SEEN == (digest_of_program(program_of(cases)), digest(repr(expected)))
    check(cases, ours, expected)


def check(cases, ours, expected):
    failures = [
        (a, b, given, wanted, found)
        for (a, b, *inputs), found_parts, wanted_parts in zip(cases, ours, expected, strict=True)
        for part in zip(inputs, wanted_parts, found_parts, strict=True)
        for given, wanted, found in zip(*part, strict=True)
        if wanted != found
    ]
    assert not failures, f"{len(failures)} differ: " + "\n".join(map(str, failures[:8]))


def machine_cast(a, b, raws):
    x = np.array([[raw * 2.0**-a.fraction] * 2 for raw in raws])
    low, high = BitSim(cast_network(a, b)).predict(x)
    return [(int(h) << 30) + int(lo) for lo, h in zip(low[:, 0], high[:, 1], strict=True)]


def machine_input(b, xs):
    whole = FixedPoint(b.width, b.width, b.signed)
    first = Value(0, "x", (1,), b)
    low = Value(1, "low", (1,), FixedPoint(30, 30, False))
    high = Value(2, "high", (1,), FixedPoint(40, 40, True))
    ops = (
        Input(first, 0),
        Map(first, low, recipe(Cast(whole, low.format))),
        Map(first, high, recipe(Cast(FixedPoint(b.width, b.width - 30, b.signed), high.format))),
    )
    parts = BitSim(Network(ops, (first,), (low, high), {})).predict(np.array(xs).reshape(-1, 1))
    return [(int(h) << 30) + int(lo) for lo, h in zip(parts[0][:, 0], parts[1][:, 0], strict=True)]


def test_a_cast_that_cannot_change_anything_costs_no_step():
    wide, wider = FixedPoint(8, 4), FixedPoint(12, 8)
    encoded = encode(cast_network(wide, wider), (), lanes=16)
    assert encoded.counters == ()
    assert Recipe((ShiftLeft(0),)).uniform
