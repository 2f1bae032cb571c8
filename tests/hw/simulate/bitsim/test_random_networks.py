"""Random networks, formats, modes and inputs: every layer of bitsim equals hls4ml's C simulation on every bit."""

from __future__ import annotations

import numpy as np
import pytest

from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.kernels import library
from hw.simulate.bitsim.lower import lower
from hw.simulate.bitsim.program import Input, Linear, Network, Value, Window
from hw.simulate.bitsim.recipes import Cast, recipe
from hw.simulate.explain import explain
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding
from tests.helpers.byte_layers import byte_layers
from tests.helpers.random_networks import random_model

pytestmark = pytest.mark.gxx
SAMPLES = 40
#: Of the first 22 seeds the fewest that hold every kind of layer among them, and twice where there are two.
#: `benchmarks/bitsim_fuzz.py` takes a thousand.
SEEDS = {
    "io_parallel": [400_000 + n for n in (0, 2, 4, 5, 9, 11, 13, 14, 16, 19, 21)],
    "io_stream": [500_000 + n for n in (0, 4, 8, 9, 12, 14, 16, 19, 21)],
}


@pytest.fixture(scope="module", params=SEEDS)
def compared(request, tmp_path_factory):
    """One model of independent random networks, its C simulation's trace, and the inputs."""
    seeds = SEEDS[request.param]
    model = random_model(seeds, tmp_path_factory.mktemp(request.param), request.param == "io_stream")
    inputs = model.inputs(SAMPLES, seeds[0])
    _, reference = model.csim(inputs, keep=True)
    return model, inputs, reference


def test_every_layer_equals_csim(compared):
    model, inputs, reference = compared
    simulator = BitSim.from_graph(model.graph)
    candidate = simulator.trace(inputs)
    assert len([name for name in reference if name in candidate]) >= 2 * len(model.branches)
    assert explain(reference, candidate, simulator.formats) is None
    outputs = simulator.predict(inputs)
    for name, out in zip(simulator.outputs, outputs, strict=True):
        if name in reference:
            np.testing.assert_array_equal(out, reference[name].reshape(out.shape), err_msg=name)


def test_threads_and_batch_sizes_do_not_change_a_bit(compared):
    model, inputs, _ = compared
    simulator = BitSim.from_graph(model.graph)
    whole = simulator.predict(inputs, threads=1)
    for threads, step in ((2, SAMPLES), (3, 7), (1, 1)):
        parts = [simulator.predict([x[i : i + step] for x in inputs], threads=threads) for i in range(0, SAMPLES, step)]
        for which, expected in enumerate(whole):
            np.testing.assert_array_equal(np.concatenate([part[which] for part in parts]), expected)


def test_float64_inputs_give_the_same_bits(compared):
    model, inputs, _ = compared
    simulator = BitSim.from_graph(model.graph)
    for one, two in zip(
        simulator.predict(inputs), simulator.predict([x.astype(np.float64) for x in inputs]), strict=True
    ):
        np.testing.assert_array_equal(one, two.astype(np.float32))


def pixels():
    """Bytes that are the input's own numbers, which the kernels read without converting them."""
    image = Value(0, "image", (7, 9, 3), FixedPoint(9, 1, True, Rounding.RND_CONV, Overflow.SAT))
    codes = np.random.default_rng(4).integers(0, 256, (50, 7, 9, 3)).astype(np.uint8)
    return Network((Input(image, 0),), (image,), (image,)), [codes], 8


def words(weights_low=-32767, weights_high=32768, width=34):
    """A dense layer of unsigned 16-bit numbers, with many at the ends, and what it computes."""
    rng, fmt = np.random.default_rng(5), FixedPoint(16, 16, False, Rounding.RND, Overflow.SAT)
    accumulator = FixedPoint(width, width)
    source, out = Value(0, "x", (9,), fmt), Value(1, "fc", (5,), accumulator)
    weights = rng.integers(weights_low, weights_high, (5, 1, 1, 9))
    weights[0], weights[1] = weights_low, weights_high - 1
    bias, cast = rng.integers(-1000, 1000, 5), recipe(Cast(accumulator, accumulator, "fc"))
    layer = Linear(source, out, Window(), weights, FixedPoint(16, 16), bias, accumulator, cast, "fc")
    x = rng.choice([0, 1, 32767, 32768, 65535, 12345], (50, 9)).astype(np.uint16)
    sums = x.astype(np.int64) @ weights.reshape(5, -1).T + bias
    half = 1 << (width - 1)
    wanted = (sums + half) % (2 * half) - half
    return Network((Input(source, 0), layer), (source,), (out,)), [x], 0, wanted.astype(np.float32)


@pytest.mark.parametrize(
    ("settings", "kernel"),
    [
        ({"weights_low": -128, "weights_high": 128}, "uint16"),
        ({"width": 32}, "uint16"),
        ({"width": 23}, "uint16"),
        ({}, "exact"),  # its sums take more than 32 bits
    ],
)
def test_unsigned_words_are_computed_as_signed_ones(settings, kernel):
    network, codes, fraction, wanted = words(**settings)
    simulator = BitSim(network)
    assert simulator.kernels == {"fc": kernel}
    np.testing.assert_array_equal(simulator.predict(codes, fraction=fraction), wanted)


@pytest.mark.parametrize("layer", byte_layers(), ids=lambda layer: layer.kernel)
def test_bytes_at_their_extremes_give_what_numpy_computes(layer):
    simulator = BitSim(layer.network)
    wide = layer.kernel if library.load().bitsim_quads() else layer.kernel.replace("int8_wide", "int16")
    assert simulator.kernels == {"layer": wide}
    np.testing.assert_array_equal(simulator.predict(layer.codes, fraction=0), layer.wanted)


@pytest.fixture
def quick_build(monkeypatch):
    """Libraries of other instruction sets are compiled with -O0, in a fifth of the time; this machine's is as ever."""
    library.load()
    monkeypatch.setattr(library, "_COMMON", [*library._COMMON, "-O0"])
    yield
    library._load.cache_clear()


def test_every_instruction_set_gives_the_same_bits(compared, monkeypatch, quick_build):
    model, inputs, _ = compared
    network = lower(model.graph)
    codes = [np.clip(np.rint(x * 256), -(1 << 15), (1 << 15) - 1).astype(np.int16) for x in inputs]
    *unsigned, products = words(width=32)
    extremes = byte_layers()
    jobs = [(network, inputs, None), (network, codes, 8), pixels(), tuple(unsigned)]
    jobs += [(layer.network, [layer.codes], 0) for layer in extremes]
    simulator = BitSim(network)  # of this machine's own instruction set
    expected = [*simulator.predict(inputs), *simulator.predict(codes, fraction=8)]
    expected += [pixels()[1][0].reshape(50, -1) / np.float32(256), products, *(layer.wanted for layer in extremes)]
    ran = []
    for isa in ("portable", *supported()):
        monkeypatch.setenv(library.ISA_VARIABLE, isa)
        ran.append(library.isa_name())
        found = [BitSim(network).predict(x, fraction=fraction) for network, x, fraction in jobs]
        outputs = [part for parts in found for part in (parts if isinstance(parts, list) else [parts])]
        for which, (out, wanted) in enumerate(zip(outputs, expected, strict=True)):
            np.testing.assert_array_equal(out, wanted, err_msg=f"{isa}, output {which}")
    assert ran == ["portable", *supported()]


def supported() -> list[str]:
    """Instruction sets this processor can run, those that need AMX's tiles in plain C++ among them."""
    named = [isa for isa in library.ISAS if isa not in ("native", "portable")]
    return [isa for isa in named if not library.missing_instructions(isa)]


@pytest.mark.skipif("amx" not in library.ISAS, reason="only x86 has tiles")
def test_kernels_for_amx_compile(quick_build):
    assert library.build("amx").exists()


@pytest.mark.skipif("amx_emulated" not in supported(), reason="the emulated tiles need AVX-512 VNNI")
def test_tiles_are_taken_only_where_they_are_faster(monkeypatch, quick_build):
    """The emulated ones are not: the layers that tried them compute with vectors, and keep their bits."""
    monkeypatch.setenv(library.ISA_VARIABLE, "amx_emulated")
    library.load().bitsim_tiles_always(0)
    for layer in byte_layers():
        np.testing.assert_array_equal(BitSim(layer.network).predict(layer.codes, fraction=0), layer.wanted)


@pytest.mark.parametrize(("isa", "lacks"), [("avx512vnni", "avx512_vnni, avx512bw"), ("amx", "amx_int8, amx_tile")])
def test_an_instruction_set_that_the_processor_lacks_is_refused(monkeypatch, isa, lacks):
    words = library.X86["amx"].needs - {*lacks.split(", ")}
    monkeypatch.setattr(library, "ISAS", {**library.ISAS, **library.X86})
    monkeypatch.setattr(library, "processor_text", lambda: f"flags : {' '.join(words)}")
    monkeypatch.setenv(library.ISA_VARIABLE, isa)
    with pytest.raises(UserError, match=f"{isa}: this processor lacks {lacks}; it can run native, portable, "):
        library.forced_isa()
