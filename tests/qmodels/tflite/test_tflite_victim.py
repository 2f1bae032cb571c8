"""A `.tflite` file as a victim: what its inputs and outputs stand for, in which batches, and what becomes of damage."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tflite_models import hidden_softmax, images, keras_model, tflite_content
from hypothesis import given
from hypothesis import strategies as st

from qmodels.attacks import PGD, HopSkipJumpLinf, Square, parse_attack
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.tflite import InputMap, TFLiteVictim, is_tflite
from qmodels.tflite.export import TARGETS, Target, export_tflite
from qmodels.tflite.process import Tensor
from qmodels.victims import AcceleratorVictim, GradientModel, KerasVictim, predictions

Y = np.arange(90) % 3


def victim_of(tmp_path: Path, content: bytes, **settings: Any) -> TFLiteVictim:
    path = tmp_path / "own.tflite"
    path.write_bytes(content)
    return TFLiteVictim(path, **settings)


@pytest.mark.parametrize("target", TARGETS)
def test_exported_files_decide_as_their_model_on_exact_inputs(tmp_path: Path, target: Target) -> None:
    victim = victim_of(tmp_path, tflite_content(target))
    assert (victim.precision, victim.input_shape, victim.outputs) == (target, (4, 4, 1), 3)
    assert victim.inputs.largest_error == 0 and victim.inputs.distinct
    x = images(90)
    expected = KerasVictim(keras_model(), "float").logits(x)
    found = victim.logits(x)
    error = np.abs(found - expected)
    assert np.median(error) <= {"float32": 1e-6, "int8": 0.02, "int16x8": 0.01}[target]  # weights have 8 bits in both
    assert error.max() < (1e-5 if target == "float32" else 0.1)
    np.testing.assert_array_equal(predictions(victim, x), Y)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_logits_before_a_softmax_or_sigmoid_are_read(tmp_path: Path, target: Target, head: str) -> None:
    victim = victim_of(tmp_path, tflite_content(target, head))
    assert (victim.head, victim.probabilities) == (head, False)
    x = images(30)
    found = victim.logits(x)
    assert found.max() > 1.5, "logits, not probabilities"
    model = keras_model(head)
    probabilities = KerasVictim(model, "float").logits(x)
    powers = np.exp(found)
    again = powers / powers.sum(axis=1, keepdims=True) if head == "softmax" else powers / (1 + powers)
    assert np.abs(again - probabilities).max() < (1e-5 if target == "float32" else 0.05)


def test_probabilities_without_a_softmax_at_the_end_become_logarithms_and_say_so(tmp_path: Path) -> None:
    victim = victim_of(tmp_path, hidden_softmax())
    assert (victim.head, victim.probabilities) == ("", True)
    found, plain = victim.logits(images(30)), KerasVictim(keras_model(), "float").logits(images(30))
    np.testing.assert_allclose(found - found[:, :1], plain - plain[:, :1], atol=1e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_an_input_gets_the_same_answer_in_any_batch(tmp_path: Path, target: Target) -> None:
    victim, x = victim_of(tmp_path, tflite_content(target)), images(77)
    assert victim._interpreter.batched
    alone = np.concatenate([victim.logits(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(victim.logits(x), alone)
    np.testing.assert_array_equal(victim.logits(x[:33]), alone[:33])
    assert victim.logits(x[:0]).shape == (0, 3)


def test_integer_margins_do_not_wrap(tmp_path: Path) -> None:
    victim = victim_of(tmp_path, tflite_content("int8"))
    found = victim.logits(images(90))
    stored = np.rint(found / victim._interpreter.output.scale).astype(int)
    spread = stored.max(axis=1) - stored.min(axis=1)
    assert spread.max() > 127, "in int8 this difference would be negative"
    assert (found.max(axis=1) - found.min(axis=1)).max() == pytest.approx(
        spread.max() * victim._interpreter.output.scale
    )


@given(
    bits=st.integers(2, 8),
    integer=st.integers(-2, 4),
    signed=st.booleans(),
    power=st.integers(-2, 3),
    zero=st.integers(-128, 127),
)
def test_codes_are_stored_as_the_nearest_numbers(bits: int, integer: int, signed: bool, power: int, zero: int) -> None:
    grid = InputGrid(FixedPoint(bits, integer, signed=signed))
    tensor = Tensor((1,), np.dtype(np.int8), float(grid.step) * 2.0**power, zero)
    codes = np.arange(grid.lower, grid.upper + 1)[:, None].astype(grid.dtype)
    stored = InputMap(grid, tensor)(codes).astype(np.int64)
    away = np.sign(codes) * np.floor(np.abs(codes) / 2.0**power + 0.5)  # halves away from zero
    np.testing.assert_array_equal(stored, np.clip(away + zero, -128, 127))


def test_pixels_are_what_the_network_takes_them_for() -> None:
    tensor = Tensor((1,), np.dtype(np.int8), 1 / 255, -128)
    codes = np.arange(256, dtype=np.uint8)[:, None]
    by_grid, by_255 = InputMap(IMAGE_GRID, tensor), InputMap(IMAGE_GRID, tensor, "0..1")
    np.testing.assert_array_equal(by_255(codes)[:, 0], np.arange(-128, 128))
    assert by_255.distinct and "exact" in by_255.told
    assert not by_grid.distinct and "become one stored number" in by_grid.told
    around_zero = InputMap(IMAGE_GRID, Tensor((1,), np.dtype(np.int8), 2 / 255, 0), "-1..1")
    assert (np.diff(around_zero(codes)[:, 0].astype(int)) >= 1).sum() == 254  # one end saturates
    as_they_are = InputMap(IMAGE_GRID, Tensor((1,), np.dtype(np.uint8), 0.5, 3), "codes")
    np.testing.assert_array_equal(as_they_are(codes)[:, 0], np.arange(256))


def test_attacks_ask_the_file_and_follow_a_keras_model(tmp_path: Path) -> None:
    victim, x = victim_of(tmp_path, tflite_content("int8")), images(30)
    asking = [Square(queries=60), HopSkipJumpLinf(queries=60)]
    asking += [parse_attack({"kind": kind, "queries": 60}) for kind in ("zoo", "simba")]
    for attack in asking:
        result = attack(victim, x, Y[:30], epsilon_lsb=64 if attack.norm == "linf" else 250, seed=0)
        assert result.queries > 30
        np.testing.assert_array_equal(predictions(victim, result.x) != Y[:30], result.success)
    with pytest.raises(UserError, match="victim 'tflite' gives no gradients"):
        PGD()(victim, x, Y[:30], epsilon_lsb=8, seed=0)
    followed = AcceleratorVictim(victim, GradientModel(keras_model()))
    found = PGD(steps=5)(followed, x, Y[:30], epsilon_lsb=64, seed=0)
    np.testing.assert_array_equal(predictions(victim, found.x) != Y[:30], found.success)
    assert found.success.mean() > 0.5


def test_damaged_files_are_one_message_soon_and_crash_nothing(tmp_path: Path) -> None:
    content, rng, outcomes = tflite_content("int8"), np.random.default_rng(0), []
    cases = [b"", b"TFL", content[:200], content[: len(content) // 2], content[:-3], b"\0" * 4 + b"TFL3" + b"\xff" * 99]
    for _ in range(3):
        broken = bytearray(content)
        for place in rng.integers(8, len(content), 12):
            broken[place] = rng.integers(256)
        cases.append(bytes(broken))
    for case in cases:
        started = time.process_time()
        try:
            victim_of(tmp_path, case).logits(images(2))
            outcomes.append("")
        except UserError as error:
            outcomes.append(str(error))
        assert time.process_time() - started < 5
    assert all(told.startswith(str(tmp_path / "own.tflite: ")[:-2]) and "\n" not in told for told in outcomes if told)
    assert all(outcomes[:6])


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    victim = victim_of(tmp_path, tflite_content("int8"))
    victim._interpreter._child.kill()
    with pytest.raises(UserError, match=r"own\.tflite: the TensorFlow Lite interpreter crashed on it \(SIGKILL\)"):
        victim.logits(images(2))


def test_what_is_no_classifier_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.tflite").mkdir()
    for path, told in ((tmp_path / "none.tflite", "no such file"), (tmp_path / "folder.tflite", "is no file")):
        with pytest.raises(UserError, match=told):
            TFLiteVictim(path)
    with pytest.raises(UserError, match=r"model\.pixels: codes is for files with an 8-bit input"):
        victim_of(tmp_path, tflite_content("float32"), pixels="codes")
    with pytest.raises(UserError, match=r"model\.pixels: 0\.\.1 is for 8-bit pixels"):
        victim_of(tmp_path, tflite_content("int8"), grid=InputGrid(FixedPoint(12, 4)), pixels="0..1")


def test_custom_operators_do_not_run(tmp_path: Path) -> None:
    """TensorFlow's own operators may read and write files; the converter packs them as custom ones."""
    from qmodels.runtime import runtime

    tf, plain = runtime().tf, keras_model()

    def with_a_file(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / "made"), "x")]):
            return tf.identity(plain(x))

    function = tf.function(with_a_file, input_signature=[tf.TensorSpec((1, 4, 4, 1))]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(UserError, match="it has an operator CUSTOM 'FlexWriteFile'"):
        victim_of(tmp_path, converter.convert())
    assert not (tmp_path / "made").exists()


def test_a_file_is_known_by_suffix_or_mark(tmp_path: Path) -> None:
    (tmp_path / "any.bin").write_bytes(tflite_content("int8"))
    assert is_tflite(tmp_path / "any.bin") and is_tflite(tmp_path / "none.tflite")
    assert not is_tflite(tmp_path / "none.bin") and not is_tflite(tmp_path) and not is_tflite(None)


def test_tensorflow_is_not_loaded_for_a_victim(tmp_path: Path) -> None:
    (tmp_path / "own.tflite").write_bytes(tflite_content("int8"))
    code = (
        "import sys, pathlib, numpy; from qmodels.tflite import TFLiteVictim\n"
        "v = TFLiteVictim(pathlib.Path(sys.argv[1])); v.logits(numpy.zeros((3, 4, 4, 1), numpy.uint8))\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "own.tflite")], check=True, env=_here())


def _here() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_export_refuses_what_it_cannot_make() -> None:
    from helpers.models import qkeras_model

    with pytest.raises(UserError, match="has quantizers"):
        export_tflite(qkeras_model(), "int8", IMAGE_GRID.to_values(images(2)))
    with pytest.raises(UserError, match="no training inputs"):
        export_tflite(keras_model(), "int8", IMAGE_GRID.to_values(images(0)))
