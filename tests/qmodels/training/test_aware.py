from __future__ import annotations

import numpy as np
import pytest

from qmodels.architectures import ModelConfig, build_float
from qmodels.quantize.model import LayerFormats, QuantizationConfig, quantize_model
from qmodels.quantize.mulaw import MappingConfig, map_weights
from qmodels.quantize.weights import uniform_levels
from qmodels.runtime import runtime
from qmodels.training.aware import quantization_aware, straight_through, train_aware
from tests.qmodels.training.tiny_training import digits, tiny_config, tiny_model

NETWORKS = [
    ModelConfig(architecture="mlp", hidden=(12,)),
    ModelConfig(filters=(2, 3), hidden=(8,), kernel_size=3),
    ModelConfig(filters=(2, 3), hidden=(8,), downsampling="stride", binary_input=True),
]


@pytest.mark.parametrize(
    ("config", "mu", "quantization"),
    [
        (NETWORKS[0], 7.0, QuantizationConfig(weight_bits=3, activation_bits=4)),
        (NETWORKS[1], 0.0, QuantizationConfig(weight_bits=2, granularity="per-channel", activation_bits=5)),
        (NETWORKS[1], 7.0, QuantizationConfig(weight_bits=4, method="codebook")),
        (NETWORKS[2], 0.0, QuantizationConfig(weight_bits=3, activation_bits=4)),
        (NETWORKS[2], 7.0, QuantizationConfig(weight_bits=3, method="power-of-two", granularity="per-channel")),
    ],
    ids=["mlp-mu", "per-channel", "codebook-mu", "binary-stride", "power-of-two-mu"],
)
def test_the_trained_network_is_the_quantized_one_bit_for_bit(config, quantization, mu):
    model = build_float(config, (8, 8, 1), 10, seed=1)
    mapping = MappingConfig(mu=mu)
    quantized = quantize_model(map_weights(model, mapping)[0], quantization, digits().train.values[:200])
    aware = quantization_aware(model, {item.layer: item for item in quantized.formats}, mapping)
    images = digits().test.values[:100]
    assert np.array_equal(aware(images).numpy(), quantized.model(images).numpy())


def test_a_trained_network_quantizes_to_what_was_trained(tmp_path):
    data, model = digits(), tiny_model()
    config = tiny_config("adversarial", quantization_aware={"epochs": 2}, defensive={"beta": 3e-4})
    quantization, mapping = (
        QuantizationConfig(weight_bits=3, activation_bits=4),
        MappingConfig(mu=3, layers=("last-1",)),
    )
    before = model.get_weights()
    report, formats = train_aware(
        model, config, quantization, mapping, data.train.take(500), data.validation, seed=0, checkpoint_dir=tmp_path
    )
    assert report.epochs == 2
    assert not np.array_equal(before[0], model.get_weights()[0])
    stored = {name: LayerFormats.from_json(item.as_json()) for name, item in formats.items()}
    quantized = quantize_model(map_weights(model, mapping)[0], quantization, data.train.values, formats=stored)
    trained = quantization_aware(model, formats, mapping)
    assert np.array_equal(trained(data.test.values).numpy(), quantized.model(data.test.values).numpy())
    # the last record is of the network as the accelerator has it
    right = np.mean(quantized.model(data.validation.values).numpy().argmax(1) == data.validation.y)
    assert report.history[report.best_epoch - 1].validation_accuracy == pytest.approx(right)


def test_gradients_pass_inside_and_lead_back_from_outside():
    tf = runtime().tf
    levels = uniform_levels(2)  # -2 .. 1
    low, high = float(levels[0]), float(levels[-1])
    rounded = straight_through(lambda x: tf.clip_by_value(tf.round(x), low, high), low, high)
    latent = tf.constant([-5.0, -5.0, 0.2, 0.2, 4.0, 4.0])
    upstream = tf.constant([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    with tf.GradientTape() as tape:
        tape.watch(latent)
        total = tf.reduce_sum(rounded(latent) * upstream)
    # descent moves against the gradient: below the levels only negative gradients lead back, above only positive ones
    assert tape.gradient(total, latent).numpy().tolist() == [0.0, -1.0, 1.0, -1.0, 1.0, 0.0]


def test_the_phase_needs_to_be_asked_for(tmp_path):
    data = digits()
    with pytest.raises(ValueError, match="quantization_aware is not set"):
        train_aware(
            tiny_model(),
            tiny_config(),
            QuantizationConfig(),
            MappingConfig(),
            data.train,
            data.validation,
            seed=0,
            checkpoint_dir=tmp_path,
        )
