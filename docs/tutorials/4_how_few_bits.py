# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 4. How few bits? Sizing
#
# More bits cost more LUTs. Do they buy robustness? `robust-hls size` answers that. You name an experiment and the settings to
# vary. It trains what must be trained, attacks every design that could be among the best, and draws accuracy under attack over
# cost. This small search takes about a minute.
#
# Your own model needs no training and no config: `robust-hls size --model my.keras --data my.npz`.

# %%
from pathlib import Path
from tempfile import mkdtemp

folder = Path(mkdtemp(prefix="robust-hls-tutorial-"))
config = """
name: few_bits
fixed:
  data.validation_share: 0.25
  training.method: adversarial
  training.epochs: 15
  training.adversarial.epsilon_lsb: 16
  model.filters: [8, 16]
  model.hidden: [32]
space:
  quantization.weight_bits: [2, 3, 4, 6]
  quantization.activation_bits: [4, 6]
mode: grid
screening: {seeds: 1, round: 4}
worst_case: {epsilon_lsb: 16, images: 120, attack: {kind: worst-case, attacks: [{kind: apgd-ce}, {kind: apgd-dlr}]}}
final: {images: 200, designs: 3}
"""
(folder / "few_bits.yaml").write_text(config)
print(config)

# %%
import subprocess

command = ["robust-hls", "size", str(folder / "few_bits.yaml"), "--out", str(folder / "sizing")]
done = subprocess.run(command, capture_output=True, text=True)
print(done.stdout[-3500:], done.stderr[-500:])
done.check_returncode()

# %% [markdown]
# A *front* holds the designs that no other design beats: no other one is as robust and as cheap. The recommendation is the cheapest
# design within one point of the most robust one.

# %%
for name in sorted(path.name for path in (folder / "sizing").iterdir()):
    print(name)

# %% [markdown]
# Open `sizing/report.html` for the plot and all designs.
#
# **Exercise.** Add `hardware.reuse_factor: [1, 4]` to `space`. Which designs does that put on the front, and for which cost?
