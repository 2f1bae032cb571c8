"""Interval bounds: whatever an input inside a box leads to, in every layer, lies within them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.certify.bounds import propagate
from hw.certify.interval import Interval, cast
from hw.certify.recipes import image
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Input, Linear, Map, Network, Pool, Softmax, Value, Window
from hw.simulate.bitsim.recipes import Cast, Choose, Clamp, LookupTable, Recipe, ShiftLeft, recipe
from hw.simulate.bitsim.scalars import quantize
from qmodels.formats import FixedPoint, Overflow, Rounding
from tests.helpers.random_networks import random_model

pytestmark = pytest.mark.gxx
BOXES, INSIDE = 6, 150
SEEDS = {"io_parallel": [400_300 + n for n in range(10)], "io_stream": [500_000 + n for n in range(10)]}


def boxes_of(network, rng):
    """A box an input, of any size, and samples inside: anywhere, and at its corners."""
    boxes, samples = [], []
    for value in network.inputs:
        low, high = value.format.raw_min, value.format.raw_max
        centre = rng.integers(low, high + 1, (BOXES, value.size))
        widest = rng.choice([0, 1, 2, 8, (high - low) // 2, high - low], (BOXES, 1))
        reach = np.minimum(rng.integers(0, widest + 1, centre.shape), high - low)
        box = Interval(np.maximum(centre - reach, low), np.minimum(centre + reach, high))
        inside = rng.integers(box.low[:, None], box.high[:, None] + 1, (BOXES, INSIDE, value.size))
        corner = np.where(rng.random(inside.shape) < 0.5, box.low[:, None], box.high[:, None])
        boxes.append(box)
        samples.append(np.where(rng.random((BOXES, INSIDE, 1)) < 0.5, corner, inside))
    return boxes, samples


def traced(network, samples):
    """Raw integers of every layer, (samples, elements); inputs are whole numbers of their own grid's steps."""
    given = [
        (part * 2.0**-value.format.fraction).reshape(-1, *value.shape)
        for part, value in zip(samples, network.inputs, strict=True)
    ]
    trace = BitSim(network).trace(given)
    return {
        value.index: np.ldexp(trace[name], value.format.fraction).reshape(len(given[0]), -1)
        for name, value in network.traced.items()
    }


@pytest.fixture(scope="module", params=SEEDS)
def network(request, tmp_path_factory):
    """Random layers, formats, rounding and overflow modes, many networks in one."""
    model = random_model(SEEDS[request.param], tmp_path_factory.mktemp("r"), request.param == "io_stream")
    return lower(model.graph)


def test_every_layer_of_random_networks_stays_within_its_bounds(network):
    boxes, samples = boxes_of(network, np.random.default_rng(1))
    bounds = propagate(network, boxes)
    for index, found in traced(network, samples).items():
        inside = found.reshape(BOXES, INSIDE, -1)
        low, high = (end.astype(float)[:, None] for end in bounds[index])
        assert ((low <= inside) & (inside <= high)).all(), index


def test_a_box_of_one_point_gives_the_points_own_bits(network):
    """A second way to compute what bitsim computes: only softmax is not followed."""
    _, samples = boxes_of(network, np.random.default_rng(2))
    points = [part[:, 0] for part in samples]
    bounds = propagate(network, [Interval(part, part) for part in points])
    behind = {op.out.index for op in network.ops if isinstance(op, Softmax)}
    for op in network.ops:
        read = [getattr(op, name).index for name in ("source", "one", "two") if hasattr(op, name)]
        behind |= {op.out.index} if behind & set(read) else set()
    for index, found in traced(network, points).items():
        if index not in behind:
            np.testing.assert_array_equal(bounds[index].low.astype(float), found)
            np.testing.assert_array_equal(bounds[index].high, bounds[index].low)


@st.composite
def formats(draw, widest=5):
    width = draw(st.integers(1, widest))
    overflow = draw(st.sampled_from(Overflow))
    signed = draw(st.booleans())
    if overflow is Overflow.WRAP_SM and (not signed or width < 2):
        overflow = Overflow.SAT
    return FixedPoint(width, draw(st.integers(-2, width + 2)), signed, draw(st.sampled_from(Rounding)), overflow)


@given(formats(7), formats(6), st.data())
@settings(max_examples=150, deadline=None)
def test_a_cast_gives_the_hull_and_no_more(source, target, data):
    low = data.draw(st.integers(source.raw_min, source.raw_max))
    high = data.draw(st.integers(low, source.raw_max))
    found = cast(Interval(np.array([[low]]), np.array([[high]])), source, target)
    inside = [quantize(v, source, target) for v in range(low, high + 1)]
    assert found.low <= min(inside) and max(inside) <= found.high
    if target.overflow in (Overflow.SAT, Overflow.SAT_SYM):
        assert (found.low, found.high) == (min(inside), max(inside))


@given(st.integers(-20, 20), st.integers(0, 30), st.integers(-9, 9), st.lists(st.integers(-50, 50), min_size=61))
@settings(max_examples=100, deadline=None)
def test_tables_and_choices_give_the_hull(low, length, threshold, table):
    high = min(low + length, 30)
    low = min(low, high)
    value = Value(0, "x", (1,), FixedPoint(8, 8))
    looked = recipe(Clamp(-30, 30), LookupTable(np.array(table), -30))
    found = image(looked, Interval(np.array([[low]]), np.array([[high]])), value)
    inside = table[low + 30 : high + 31]
    assert (found.low, found.high) == (min(inside), max(inside))
    chosen = recipe(Choose(threshold, (ShiftLeft(1),), looked.actions))
    found = image(chosen, Interval(np.array([[low]]), np.array([[high]])), value)
    inside = [2 * v if v > threshold else table[v + 30] for v in range(low, high + 1)]
    assert (found.low, found.high) == (min(inside), max(inside))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_tiny_networks_are_bounded_at_all_grid_points_and_one_layer_attains_its_bounds(seed):
    rng = np.random.default_rng(seed)
    three = FixedPoint(3, 3)
    x, wide, out = Value(0, "x", (3,), three), Value(1, "fc", (2,), FixedPoint(9, 9)), Value(2, "relu", (2,), three)
    accumulator = FixedPoint(9, 9)
    weights = rng.integers(-4, 4, (2, 1, 1, 3))
    target = FixedPoint(3, 3, bool(rng.random() < 0.5), Rounding.RND, Overflow(rng.choice(["SAT", "WRAP", "SAT_ZERO"])))
    out = Value(2, "relu", (2,), target)
    first = recipe(Cast(accumulator, accumulator, "fc"))
    ops = (
        Input(x, 0),
        Linear(x, wide, Window(), weights, three, rng.integers(-9, 9, 2), accumulator, first, "fc"),
        Map(wide, out, recipe(Clamp(0), Cast(accumulator, target, "relu"))),
    )
    network = Network(ops, (x,), (out,), {"fc": wide, "relu": out})
    low = rng.integers(-4, 4, 3)
    high = np.minimum(low + rng.integers(0, 4, 3), 3)
    bounds = propagate(network, [Interval(low[None], high[None])])
    points = np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    found = traced(network, [points])
    np.testing.assert_array_equal(bounds[1].low[0], found[1].min(axis=0))
    np.testing.assert_array_equal(bounds[1].high[0], found[1].max(axis=0))
    assert (bounds[2].low[0] <= found[2].min(axis=0)).all() and (bounds[2].high[0] >= found[2].max(axis=0)).all()


def test_averages_of_sums_that_are_rounded_reach_beyond_the_sum_of_their_inputs():
    """Each sum is rounded down to whole steps: two of -1/32 give -2, not 0, before the division."""
    fine, coarse = FixedPoint(3, -2), FixedPoint(10, 10)
    x, out = Value(0, "x", (2, 1), fine), Value(1, "pool", (1, 1), coarse)
    kept = FixedPoint(15, 10)
    pool = Pool(
        x,
        out,
        Window(1, 2, 1, 2),
        maximum=False,
        tree=False,
        pad_value=0,
        on_input=Recipe(),
        on_sum=recipe(Cast(kept, coarse), ShiftLeft(5)),
        divide=(recipe(Cast(kept, coarse)),),
        recipe=recipe(Cast(coarse, coarse)),
    )
    network = Network((Input(x, 0), pool), (x,), (out,), {"pool": out})
    assert traced(network, [np.array([[-1, -1], [3, -1]])])[1].tolist() == [[-2], [-1]]
