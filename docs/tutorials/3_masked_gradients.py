# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 3. Masked gradients: when 90 % is 0 %
#
# A model can look robust because the attack fails, and not because the model is robust. This tutorial makes such a model, and
# shows how the flags find it. It takes about a minute.
#
# We train plainly, with no defence at all. Then we map all layers by the µ-law with a very large µ. Weights grow, and so do
# the logits.

# %%
from pathlib import Path
from tempfile import mkdtemp

from qmodels import FGSM, PGD, KerasVictim, load_data
from qmodels.architectures import ModelConfig, build_float
from qmodels.quantize.mulaw import MappingConfig, map_weights
from qmodels.training import TrainingConfig, train

data = load_data("digits", seed=0)
model = build_float(ModelConfig(architecture="mlp", hidden=(128, 64)), data.input_shape, 10, seed=0)
plan = TrainingConfig(method="standard", epochs=60)
train(model, plan, data.train, data.validation, seed=0, checkpoint_dir=Path(mkdtemp(prefix="robust-hls-tutorial-")))
mapped, _ = map_weights(model, MappingConfig(mu=255, layers=("last-3",)))
plain, masked = KerasVictim(model, "plain"), KerasVictim(mapped, "mapped")

# %% [markdown]
# ## The attack that many papers use
#
# This is FGSM with the cross-entropy of the *probabilities*. Large logits make the softmax say 1.000 and 0.000. Then the gradient is zero,
# and the attack goes nowhere.

# %%
x, y = data.test
weak = FGSM(loss="ce-probabilities")
for victim in (plain, masked):
    result = weak(victim, x, y, epsilon_lsb=64, seed=0)
    print(f"{victim.name:8s} {result}")

# %% [markdown]
# The mapped model keeps nine images of ten. Is it robust? (Flags are checked by `Accelerator.attack` and by a run. A single call of
# an attack does not check them.)
#
# ## The same model, other attacks
#
# We change four things:
#
# - logits instead of probabilities
# - a loss that does not depend on the size of the logits (DLR)
# - many steps instead of one
# - examples that were made on the *plain* model and are only tried on the mapped one

# %%
for attack in (FGSM(), FGSM(loss="dlr"), PGD(steps=40), PGD(steps=40, loss="dlr")):
    result = attack(masked, x, y, epsilon_lsb=64, seed=0)
    print(result)

# for_others: an example goes on after it has fooled its own model, to the largest margin
transfer = PGD(steps=40)(plain, x, y, epsilon_lsb=64, seed=0, for_others=True).x
print(f"examples of the plain model: {(masked.logits(transfer).argmax(1) == y).mean():.1%} stay right")

# %% [markdown]
# So the robustness was never there. The gradients were hidden. This is why every table here carries flags:
#
# | flag | the number is suspect because |
# |---|---|
# | zero gradients | many samples have a gradient of exactly zero |
# | single-step stronger | FGSM beats PGD, which has more steps |
# | black-box stronger | examples from elsewhere beat the white-box attack |
# | more ε, more accuracy | with a larger ball more images survive |
#
# And this is why the last column of our tables is the worst case per image over all attacks.
#
# ## How much of it is left after quantization?

# %%
from hw import Accelerator
from qmodels import QuantizationConfig, quantize_model

quantized = quantize_model(mapped, QuantizationConfig(weight_bits=4), data.grid.to_values(data.train.x))
accelerator = Accelerator(quantized.model)
for attack in (weak, PGD(steps=40, loss="dlr")):
    print(*accelerator.attack(attack, x, y, epsilons=[32, 64]), sep="\n")

# %% [markdown]
# **Exercise.** Which share of samples has a gradient of exactly zero? Try µ = 1, 7, 63 and 255, and draw the share next to
# the accuracy under the weak attack.
