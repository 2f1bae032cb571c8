# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 2. From a float model to 3 bits and an HLS project
#
# You have a float model. You want 3-bit weights and a project for Vitis HLS. One command does all of it
# (`robust-hls run`). Here are the same steps in Python, one by one. They take about a minute.

# %%
from pathlib import Path
from tempfile import mkdtemp

from qmodels import load_data
from qmodels.architectures import ModelConfig, build_float
from qmodels.training import TrainingConfig, train

folder = Path(mkdtemp(prefix="robust-hls-tutorial-"))
data = load_data("digits", seed=0)
network = ModelConfig(architecture="cnn4", filters=(8, 16), hidden=(32,))
model = build_float(network, data.input_shape, data.classes, seed=0)

# %% [markdown]
# ## Train
#
# `feedback` is feedback learning: the training looks for the directions in which the margin of a class is smallest, and puts
# new examples there. `adversarial` is adversarial training. We use the second, because it is the stronger defence.

# %%
plan = TrainingConfig(
    method="adversarial", epochs=30, learning_rate=3e-3, adversarial={"epsilon_lsb": 16, "validation_samples": 100}
)
report = train(model, plan, data.train, data.validation, seed=0, checkpoint_dir=folder)
print(f"{report.epochs} epochs, best: {report.best_epoch}")

# %% [markdown]
# ## Map and quantize
#
# The µ-law bends the weights of the last layers, so that small weights get more of the few levels. Then every weight is rounded
# to one of 8 levels. Training images choose the ranges, never test images.

# %%
from qmodels import QuantizationConfig, quantize_model
from qmodels.quantize.mulaw import MappingConfig, map_weights

values = data.grid.to_values(data.train.x)
mapped, layers = map_weights(model, MappingConfig(mu=7, layers=("last-2",)))
quantized = quantize_model(mapped, QuantizationConfig(weight_bits=3, activation_bits=6), values)
print("mapped layers:", ", ".join(layers))
for formats in quantized.formats:
    print(f"{formats.layer:12s} weights {formats.weight}  relative error {formats.relative_error:.3f}")

# %% [markdown]
# ## The accelerator, and its project

# %%
from hw import Accelerator, HardwareConfig

accelerator = Accelerator(quantized.model, HardwareConfig(io_type="io_parallel", reuse_factor=1))
accelerator.write(folder / "hls")
print(*sorted(path.name for path in (folder / "hls").iterdir()), sep=", ")
print(accelerator.cost)

# %% [markdown]
# ## Float against accelerator

# %%
from qmodels import PGD, KerasVictim

x, y = data.test
attack = PGD(steps=40)
float_result = attack(KerasVictim(model, "float"), x, y, epsilon_lsb=16, seed=0)
(on_hardware,) = accelerator.attack(attack, x, y, epsilons=[16])
print("float:      ", float_result)
print("accelerator:", on_hardware)

# %% [markdown]
# **Exercise.** Set `mu=0`, which leaves the mapping out. What happens to the clean accuracy of the accelerator at 3 bits, and
# at 2 bits?
