"""More kinds of models that people bring, after what users of hls4ml publish: taggers, triggers, keywords, tutorials.

They stand among `own_models.KINDS` once this module is imported. Built from nothing, with random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from helpers.own_models import BYTES, FEATURES, act, bits, both, chain, image, kind
from helpers.own_models import _h5 as h5
from helpers.own_models import _json as json_file

from qmodels.runtime import runtime


def regularized(penalty: float = 1e-4) -> dict[str, Any]:
    """How training was told to keep weights small: nothing that a model in use needs."""
    keras = runtime().keras
    return {"kernel_initializer": "lecun_uniform", "kernel_regularizer": keras.regularizers.l1(penalty)}


def relu(width: int = 8, integer: int = 3) -> Any:
    """QActivation with a quantizer object, as tutorials write it."""
    q = runtime().qkeras
    return q.QActivation(activation=q.quantized_relu(width, integer))


# How they are stored


def trained(model: Any, folder: Path) -> Path:
    """HDF5 with an optimizer's state, after a step of training."""
    model.compile("adam", "mse", metrics=["mae"])
    x = np.zeros((4, *model.input_shape[1:]), np.float32)
    model.fit(x, np.zeros((4, *model.output_shape[1:]), np.float32), verbose=0)
    return h5(model, folder)


def pruned(model: Any, folder: Path) -> Path:
    """With the wrappers of TensorFlow's pruning toolkit still around the layers, which made the file."""
    import tensorflow_model_optimization as tfmot

    return h5(tfmot.sparsity.keras.prune_low_magnitude(model), folder)


def other_name(model: Any, folder: Path) -> Path:
    """An architecture, and weights that a checkpoint wrote beside it."""
    path = json_file(model, folder)
    (folder / "own.weights.h5").rename(folder / "own_weights.h5")
    return path


# Particle physics


@kind(FEATURES)
def deep_sets_tagger(layers: Any, q: Any) -> Any:
    """Batch normalization of the input, a small network for every particle, their mean, a classifier."""
    body: list[Any] = [layers.BatchNormalization(name="norm_input")]
    for place in (1, 2):
        body += [q.QConv1D(8, 1, **both(8, 2), **regularized(), name=f"Conv1D_{place}"), relu()]
    body += [layers.GlobalAveragePooling1D(name="avgpool"), relu()]
    body += [q.QDense(8, **both(8, 2), **regularized(), name="Dense_1"), relu()]
    return chain(
        (8, 6), *body, q.QDense(4, **both(8, 2), name="Dense_out"), layers.Activation("softmax", name="jet_id")
    )


@kind(FEATURES)
def long_lived_tagger(layers: Any, q: Any) -> Any:
    """Particles in rows, kernels of size one, global average, one sigmoid."""
    body: list[Any] = []
    for _ in range(2):
        body += [q.QConv1D(5, 1, **both(8, 3), **regularized()), relu(8, 0)]
    body += [layers.GlobalAveragePooling1D(), q.QDense(6, **both(8, 3)), relu(8, 0), q.QDense(1, **both(8, 3))]
    return chain((10, 7), *body, layers.Activation("sigmoid", name="sigmoid"))


@kind(FEATURES, want="message")
def tagger_of_two_heads(layers: Any, q: Any) -> Any:
    """A class, and a momentum beside it."""
    keras = runtime().keras
    source = keras.Input((16,), name="features")
    x = relu()(q.QDense(8, **both(8, 2))(act("quantized_bits(12, 3, alpha=1)")(source)))
    ends = [q.QDense(4, **both(8, 2), name="jet_id")(x), q.QDense(1, **both(8, 2), name="pt")(x)]
    return keras.Model(source, ends, name="own")


@kind(FEATURES)
def nested_auto_encoder(layers: Any, q: Any) -> Any:
    """An encoder and a decoder, each a model of its own, one behind the other."""
    keras = runtime().keras
    source = keras.Input((16,), name="hits")
    code = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(3)], name="encoder")
    rebuilt = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(16)], name="decoder")
    return keras.Model(source, rebuilt(code(source)), name="own")


@kind(FEATURES)
def trigger_auto_encoder(layers: Any, q: Any) -> Any:
    """Quantized, batch normalization with quantizers of its own, a cast in the middle without alpha."""
    body: list[Any] = [act("quantized_bits(12, 3, alpha=1)")]
    for width in (12, 3, 12):
        body += [q.QDense(width, **both(8, 2), use_bias=False), q.QBatchNormalization(), relu(10, 4)]
    return chain((19,), *body, q.QDense(19, **both(8, 2)), q.QActivation("quantized_bits(16, 6)", name="cast"))


@kind(FEATURES)
def per_particle_dense(layers: Any, q: Any) -> Any:
    """Dense layers on rows of features, as a point network is written."""
    body = [act("quantized_bits(12, 3, alpha=1)"), q.QDense(6, **both(6)), act("quantized_relu(8, 3)")]
    return chain((8, 4), *body, layers.Flatten(), q.QDense(3, **both(6)))


@kind(FEATURES)
def quantized_lstm(layers: Any, q: Any) -> Any:
    """QKeras' LSTM, for sequences of tracks."""
    weights = {f"{name}_quantizer": bits(8, 1) for name in ("kernel", "recurrent", "bias", "state")}
    memory = q.QLSTM(5, activation="tanh", recurrent_activation="sigmoid", **weights)
    return chain((6, 3), memory, q.QDense(3, **both(8, 1)))


@kind(FEATURES)
def bidirectional_gru(layers: Any, q: Any) -> Any:
    """A sequence read from both ends."""
    return chain((6, 3), layers.Bidirectional(layers.GRU(4)), layers.Dense(3, name="out"))


@kind(FEATURES)
def time_distributed(layers: Any, q: Any) -> Any:
    """One dense layer for every step."""
    return chain((6, 3), layers.TimeDistributed(layers.Dense(4, activation="relu")), layers.Flatten(), layers.Dense(3))


@kind(FEATURES, want="message")
def attention_over_particles(layers: Any, q: Any) -> Any:
    """Attention, which QKeras and our loader do not know."""
    keras = runtime().keras
    source = keras.Input((6, 4), name="features")
    x = layers.MultiHeadAttention(2, 4)(source, source)
    return keras.Model(source, layers.Dense(3)(layers.Flatten()(x)), name="own")


@kind(FEATURES)
def regularized_table(layers: Any, q: Any) -> Any:
    """Noise, dropout and penalties that act in training only."""
    body: list[Any] = [act("quantized_bits(12, 3, alpha=1)"), layers.GaussianNoise(0.1)]
    body += [q.QDense(12, **both(6), **regularized()), relu(), layers.Dropout(0.2)]
    body += [layers.ActivityRegularization(l1=1e-4), layers.AlphaDropout(0.1)]
    return chain((10,), *body, q.QDense(3, **both(6)))


@kind(FEATURES, save=trained)
def several_real_outputs(layers: Any, q: Any) -> Any:
    """Five numbers of an ellipse, trained, with the optimizer's state in the file."""
    first = layers.Dense(12, activation="relu", **regularized())
    return chain((10,), first, layers.Dropout(0.1), layers.Dense(5, activation="linear"))


@kind(FEATURES, save=pruned)
def pruned_tutorial(layers: Any, q: Any) -> Any:
    """The tutorial's third part: pruned, activations as layers, a softmax."""
    body: list[Any] = []
    for place, width in enumerate((32, 16), 1):
        body += [
            layers.Dense(width, **regularized(), name=f"fc{place}"),
            layers.Activation("relu", name=f"relu{place}"),
        ]
    return chain((16,), *body, layers.Dense(5, name="fc_out"), layers.Activation("softmax", name="softmax"))


@kind(FEATURES)
def normalized_table(layers: Any, q: Any) -> Any:
    """Features in their own units, and a layer that has seen their mean and deviation."""
    adapted = layers.Normalization(mean=np.linspace(-1, 1, 10), variance=np.linspace(0.3, 2, 10))
    return chain((10,), adapted, layers.Dense(12, activation="relu"), layers.Dense(3))


@kind(FEATURES)
def normalized_quantized(layers: Any, q: Any) -> Any:
    """The same before QKeras."""
    adapted = layers.Normalization(mean=np.linspace(-1, 1, 10), variance=np.linspace(0.3, 2, 10))
    body = [adapted, act("quantized_bits(12, 3, alpha=1)"), q.QDense(12, **both(6)), relu()]
    return chain((10,), *body, q.QDense(3, **both(6)))


# Sound and signals


@kind(FEATURES)
def keyword_ds_cnn(layers: Any, q: Any) -> Any:
    """Depthwise-separable blocks with batch normalization behind each convolution, quantized."""
    body: list[Any] = [q.QConv2D(6, (5, 4), strides=2, padding="same", use_bias=False, kernel_quantizer=bits(8))]
    body += [layers.BatchNormalization(), relu()]
    body += [q.QDepthwiseConv2D(3, padding="same", use_bias=False, depthwise_quantizer=bits(8))]
    body += [layers.BatchNormalization(), relu(), q.QConv2D(6, 1, use_bias=False, kernel_quantizer=bits(8))]
    body += [layers.BatchNormalization(), relu(), layers.AveragePooling2D((8, 4)), layers.Flatten()]
    return chain((16, 8, 1), *body, q.QDense(6, **both(8)), layers.Activation("softmax"))


@kind(FEATURES)
def ecg_residual(layers: Any, q: Any) -> Any:
    """Float Keras: shortcuts in one dimension, batch normalization, dropout, global pooling."""
    keras = runtime().keras
    source = keras.Input((32, 2), name="leads")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(4, 5, padding="same")(source)))
    for stride in (1, 2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(4, 3, strides=stride, padding="same")(x)))
        y = layers.Dropout(0.2)(y)
        y = layers.BatchNormalization()(layers.Conv1D(4, 3, padding="same")(y))
        x = x if stride == 1 else layers.Conv1D(4, 1, strides=2, padding="same")(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Dense(4)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(source, layers.Activation("softmax", name="softmax")(x), name="own")


@kind(FEATURES, save=other_name)
def weights_beside(layers: Any, q: Any) -> Any:
    """A strided convolution over samples with sigmoid gates; weights under another name."""
    body = [act("quantized_bits(12, 3, alpha=1)"), q.QConv1D(4, 3, strides=2, **both(6)), act("quantized_sigmoid(8)")]
    return chain((17, 2), *body, layers.MaxPooling1D(2), layers.Flatten(), q.QDense(3, **both(6)))


# Images


@kind()
def svhn_tutorial(layers: Any, q: Any) -> Any:
    """The tutorial's sixth part: fused convolutions, pooling, dense layers without bias, batch normalization."""
    body: list[Any] = []
    for place, filters in enumerate((4, 4, 6)):
        options = {"use_bias": True, **both(6), **regularized(), "name": f"fused_convbn_{place}"}
        body += [q.QConv2DBatchnorm(filters, 3, **options), act("quantized_relu(6)")]
        body += [layers.MaxPooling2D(2, name=f"pool_{place}")] if place < 2 else []
    body += [layers.Flatten(), q.QDense(8, use_bias=False, kernel_quantizer=bits(6), name="dense_0")]
    body += [layers.BatchNormalization(name="bn_dense_0"), act("quantized_relu(6)")]
    return chain((20, 20, 3), *body, q.QDense(10, **both(6), name="output_dense"), layers.Activation("softmax"))


@kind(BYTES)
def rescaled_image(layers: Any, q: Any) -> Any:
    """Keras' own image tutorial: pixels 0..255, Rescaling, convolutions with their ReLU, dropout."""
    body: list[Any] = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, padding="same", activation="relu")]
    body += [layers.MaxPooling2D(), layers.Dropout(0.2), layers.Flatten(), layers.Dense(8, activation="relu")]
    return chain((8, 8, 3), *body, layers.Dense(4))


@kind(BYTES)
def rescaled_quantized(layers: Any, q: Any) -> Any:
    """A power of two before QKeras."""
    body: list[Any] = [layers.Rescaling(1 / 256), act("quantized_bits(9, 0, alpha=1)"), q.QConv2D(4, 3, **both(6))]
    return chain((8, 8, 1), *body, relu(), layers.Flatten(), q.QDense(4, **both(6)))


@kind(BYTES)
def centred_image(layers: Any, q: Any) -> Any:
    """Pixels -1..1, relu6 and depthwise convolutions, as mobile networks have them."""
    body: list[Any] = [layers.Rescaling(1 / 127.5, offset=-1.0), layers.Conv2D(4, 3, strides=2, use_bias=False)]
    body += [layers.BatchNormalization(), layers.ReLU(6.0), layers.DepthwiseConv2D(3, use_bias=False)]
    body += [layers.BatchNormalization(), layers.ReLU(6.0), layers.Conv2D(6, 1), layers.ReLU(6.0)]
    return chain((9, 9, 3), *body, layers.GlobalAveragePooling2D(), layers.Dense(4, activation="softmax"))


@kind()
def augmented_image(layers: Any, q: Any) -> Any:
    """Random flips in a model of their own, before the network."""
    keras = runtime().keras
    source = keras.Input((8, 8, 1), name="picture")
    augmentation = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomTranslation(0.1, 0.1)], name="aug")
    x = act("quantized_bits(9, 0, alpha=1)")(augmentation(source))
    x = relu()(q.QConv2D(4, 3, **both(6), **regularized())(x))
    return keras.Model(source, q.QDense(4, **both(6))(layers.Flatten()(x)), name="own")


@kind()
def power_of_two_weights(layers: Any, q: Any) -> Any:
    """Weights that are shifts."""
    powers = {"kernel_quantizer": q.quantized_po2(4, 1), "bias_quantizer": bits(6)}
    return image(q.QConv2D(4, 3, **powers), relu(), **powers)


@kind()
def quantized_pooling(layers: Any, q: Any) -> Any:
    """QKeras' own average pooling."""
    pool = q.QAveragePooling2D(2, average_quantizer=bits(8), activation=q.quantized_bits(8, 2, alpha=1))
    return image(q.QConv2D(4, 3, **both(6)), relu(), pool)


@kind(want="message")
def transposed_convolution(layers: Any, q: Any) -> Any:
    """A decoder's layer that hls4ml lacks for Keras."""
    return image(layers.Conv2DTranspose(2, 3, strides=2))


@kind()
def quantizers_without_alpha(layers: Any, q: Any) -> Any:
    """`quantized_bits(8)`, in which QKeras chooses a scale, and an activation with the same."""
    plain = {"kernel_quantizer": "quantized_bits(8)", "bias_quantizer": "quantized_bits(8)"}
    return image(q.QConv2D(4, 3, **plain), act("quantized_bits(8)"), **plain)
