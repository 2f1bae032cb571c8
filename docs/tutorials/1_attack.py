# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 1. Attack my accelerator in ten lines
#
# You have a QKeras model. You want to know how robust the FPGA accelerator is that hls4ml makes of it.
# This tutorial needs about half a minute.
#
# First we need a model. Any QKeras model will do. Here we train a small one on scikit-learn's handwritten digits.
# `runtime()` gives Keras 2 and QKeras, the versions that hls4ml understands.

# %%
from qmodels import load_data
from qmodels.runtime import runtime, set_seed

keras, q = runtime().keras, runtime().qkeras
set_seed(0)
data = load_data("digits", seed=0)

bits = {"kernel_quantizer": "quantized_bits(4,0,alpha=1)", "bias_quantizer": "quantized_bits(8,2,alpha=1)"}
model = keras.Sequential(
    [
        keras.Input(data.input_shape),
        q.QActivation("quantized_bits(9,0,alpha=1)", name="pixels"),
        q.QConv2D(8, 3, strides=2, padding="same", name="conv", **bits),
        q.QActivation("quantized_relu(6,2)", name="relu1"),
        keras.layers.Flatten(name="flatten"),
        q.QDense(32, name="fc1", **bits),
        q.QActivation("quantized_relu(6,3)", name="relu2"),
        q.QDense(10, name="logits", **bits),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(data.grid.to_values(data.train.x), data.train.y, epochs=20, batch_size=32, verbose=0)

# %% [markdown]
# ## The ten lines
#
# `Accelerator` converts the model once. `attack` uses the gradients of the model. The accelerator's own bits decide
# whether an attack succeeded. ε counts steps of the input grid. One step is 1/256 of the pixel range.

# %%
from hw import Accelerator
from qmodels import PGD

accelerator = Accelerator(model)
x, y = data.test
for result in accelerator.attack(PGD(steps=40), x, y, epsilons=[2, 4, 8, 16]):
    print(result)

# %% [markdown]
# Each line has the accuracy under attack, its 95 % interval, the number of queries, and flags. A flag marks a number that
# you should not believe without a closer look.
#
# ## Is it the accelerator that we attacked?
#
# `bitsim` computes in the accelerator's integers. hls4ml's own C simulation must give the same bits.

# %%
clean = accelerator.predict(x)
same = (accelerator.csim.predict(accelerator.grid.to_values(x)) == clean).all()
print(f"bitsim and the C simulation agree on {len(x)} images, every bit: {bool(same)}")
print(accelerator.explain(x) or "No layer differs.")

# %% [markdown]
# ## What will it cost?

# %%
print(accelerator.cost)

# %% [markdown]
# ## A stronger attack
#
# One attack can fail where another one succeeds. `WorstCase` runs several and keeps, for each image, the one that works.

# %%
from qmodels import APGD, Square, WorstCase

worst = WorstCase(attacks=(APGD(), APGD(loss="dlr"), Square(queries=500)))
print(*accelerator.attack(worst, x, y, epsilons=[8]))

# %% [markdown]
# **Exercise.** Train the model with 3-bit weights and with 8-bit weights. Which one keeps more accuracy at ε = 8? Look at
# the intervals before you answer.
