"""Examples that designs share: packing, generations, and what they do to a real design's bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox
from hypothesis import given
from hypothesis import strategies as st

from hw.experiment.config import RunConfig
from hw.sizing.config import DescentConfig, FinalConfig, WorstCaseConfig
from hw.sizing.pool import Examples, Pool, joined, pack_mask, unpack_mask
from hw.sizing.questions import Question, Standing, pool_name
from hw.sizing.stages import attack_stage, certify_stage, measure_stage, pool_stage
from hw.sizing.steps import worst_case_steps
from qmodels.attacks import WorstCase
from qmodels.storage import save_model


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_mask_comes_back(bits: list[bool]) -> None:
    mask = np.array(bits)
    np.testing.assert_array_equal(unpack_mask(pack_mask(mask), len(mask)), mask)


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bits for 40 images"):
        unpack_mask(pack_mask(np.ones(9, bool)), 40)


def examples(*pairs: tuple[int, int]) -> Examples:
    """Examples of single pixels: (image, value)."""
    return Examples(np.array([row for row, _ in pairs], np.int32), np.array([[value] for _, value in pairs], np.uint8))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 255)), max_size=20))
def test_examples_come_back(pairs: list[tuple[int, int]]) -> None:
    packed = joined([examples((0, 0)), *([examples(*pairs)] if pairs else [])])
    back = Examples.unpack(packed.pack())
    assert back.digest == packed.digest
    np.testing.assert_array_equal(back.x, packed.x)


@pytest.mark.parametrize("content", [b"", b"no archive", Examples(np.zeros(1, np.int32), np.zeros((2, 1))).pack()])
def test_what_is_no_example_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no adversarial examples"):
        Examples.unpack(content)


def test_a_generation_holds_only_what_is_new() -> None:
    pool = Pool()
    first = pool.add([examples((0, 7), (1, 7)), examples((0, 7), (0, 8))])
    assert first is not None
    assert list(zip(first.rows.tolist(), first.x[:, 0].tolist(), strict=True)) == [(0, 7), (1, 7), (0, 8)]
    assert pool.add([examples((1, 7))]) is None
    second = pool.add([examples((1, 7), (2, 7))])
    assert second is not None
    assert (len(second), len(pool), len(pool.generations)) == (1, 4, 2)
    assert pool.generations[0].standing(np.array([True, False, False])).rows.tolist() == [1]


N = 40
WORST = WorstCaseConfig(
    attack=WorstCase.model_validate({"attacks": [{"kind": "apgd-ce", "steps": 10}, {"kind": "square", "queries": 40}]}),
    epsilon_lsb=24,
    images=N,
)


class Bench:
    """The toolbox' network as a training, and questions about its quantizations."""

    def __init__(self, toolbox: Toolbox, folder: Path) -> None:
        save_model(toolbox.float_model, folder / "model.keras")
        files = {"model.keras": (folder / "model.keras").read_bytes()}
        self.blobs: dict[str, Any] = {"data": toolbox.data, f"training {id(self)}": files}

    def question(self, bits: int, standing: Standing, epsilon: int = WORST.epsilon_lsb) -> Question:
        plain = {"quantization": {"weight_bits": bits, "activation_bits": 6, "calibration_samples": 100}}
        config, name = RunConfig.model_validate(plain), f"training {id(self)}"
        key = f"{id(self)} {bits}"
        worst = WORST.model_copy(update={"epsilon_lsb": epsilon})
        return Question(config, key, "data", name, worst, FinalConfig(), DescentConfig(), "", standing)


def test_examples_of_one_design_bound_another_and_attacks_begin_there(toolbox: Toolbox, tmp_path: Path) -> None:
    bench = Bench(toolbox, tmp_path)
    x = toolbox.data.validation.take(N).x
    clean = {bits: measure_stage(bench.question(bits, Standing()), bench.blobs)["fallen"] for bits in (3, 5)}
    found = attack_stage(bench.question(5, Standing(clean[5])), bench.blobs)
    pool = Examples.unpack(found["examples"])
    assert len(pool) == found["fell"] > 0
    assert np.abs(pool.x.astype(int) - x[pool.rows]).max() <= WORST.epsilon_lsb
    name = pool.digest
    bench.blobs[pool_name(name)] = pool

    tried = pool_stage(bench.question(3, Standing(clean[3], pool=(name,))), bench.blobs)
    before, after = unpack_mask(clean[3], len(x)), unpack_mask(tried["fallen"], len(x))
    assert (after >= before).all() and after.sum() > before.sum()
    assert set(np.flatnonzero(after & ~before)) <= set(pool.rows.tolist())

    step = Standing(tried["fallen"], 0, (name,))
    warm, again = (attack_stage(bench.question(3, step), bench.blobs) for _ in range(2))
    assert warm == again  # the same question, the same answer
    assert (unpack_mask(warm["fallen"], len(x)) >= after).all()
    fresh = Examples.unpack(warm["examples"]) if warm["fell"] else None
    assert fresh is None or not after[fresh.rows].any()  # only what still stood was attacked


def test_what_is_certified_stands_and_is_not_attacked(toolbox: Toolbox, tmp_path: Path) -> None:
    bench = Bench(toolbox, tmp_path)
    certified, fallen = {}, {}
    for epsilon in (1, 24):
        clean = measure_stage(bench.question(5, Standing(), epsilon), bench.blobs)["fallen"]
        certified[epsilon] = unpack_mask(
            certify_stage(bench.question(5, Standing(), epsilon), bench.blobs)["certified"], N
        )
        attacked = attack_stage(bench.question(5, Standing(clean), epsilon), bench.blobs)
        fallen[epsilon] = unpack_mask(attacked["fallen"], N)
        assert not (certified[epsilon] & fallen[epsilon]).any()
    assert 0 < certified[1].sum() and certified[24].sum() <= certified[1].sum()
    assert fallen[24].sum() > fallen[1].sum()

    standing = np.zeros(N, bool)  # told that some of what falls is certified: it is left alone
    told = fallen[24] & (np.arange(N) % 2 == 0)
    found = attack_stage(bench.question(5, Standing(pack_mask(standing), 0, (), pack_mask(told)), 24), bench.blobs)
    assert not (unpack_mask(found["fallen"], N) & told).any()


def test_the_first_gradient_attack_is_begun_warm_and_nothing_is_left_out() -> None:
    steps = worst_case_steps(WORST.attack)
    assert [(step.label, step.warm) for step in steps] == [
        ("apgd-ce, warm", True),
        ("apgd-ce", False),
        ("square", False),
    ]
    blind = WorstCase.model_validate({"attacks": [{"kind": "square", "queries": 40}]})
    assert [step.warm for step in worst_case_steps(blind)] == [False]
