"""The keys of results.json and of tables, in words with units, for a page that a person reads."""

from __future__ import annotations

#: What is not here is shown with spaces for underscores.
WORDS = {
    "absorbed_share": "changes that vanish, share",
    "adder_bits": "full-adder bits (alkaid)",
    "bias": "bias format",
    "activation": "activation format",
    "weight": "weight format",
    "bops": "bit operations an inference",
    "bram_18k": "block RAMs of 18 kbit",
    "csim_inputs": "inputs that csim saw",
    "delta_w_operator_1": "‖ΔW‖₁ of the operator",
    "delta_w_operator_2": "‖ΔW‖₂ of the operator",
    "delta_w_operator_inf": "‖ΔW‖∞ of the operator",
    "delta_w_reshaped_1": "‖ΔW‖₁ of the kernel",
    "delta_w_reshaped_2": "‖ΔW‖₂ of the kernel",
    "delta_w_reshaped_inf": "‖ΔW‖∞ of the kernel",
    "distinct_weights": "distinct weights",
    "dsps_estimated": "DSPs, estimated",
    "ebops": "effective bit operations (EBOPs)",
    "examples_lsb": "ε of the examples, LSB",
    "fifo_bits": "bits in FIFOs",
    "float_relative_change": "float: relative change",
    "ii_cycles_estimated": "cycles between inputs, estimated",
    "images_fooled": "images fooled",
    "images_right_when_clean": "images right when clean",
    "interval_cycles": "cycles between inputs",
    "io_type": "interface",
    "latency_cycles": "latency, cycles",
    "latency_cycles_estimated": "latency in cycles, estimated",
    "levels": "levels",
    "luts_estimated": "LUTs, estimated",
    "median_l0_values": "median L0, features",
    "median_l1_lsb": "median L1, LSB",
    "median_l2_lsb": "median L2, LSB",
    "median_linf_lsb": "median L∞, LSB",
    "mean_ratio": "what is left, mean",
    "median_ratio": "what is left, median",
    "multiplications": "multiplications an inference",
    "multipliers": "multipliers in hardware",
    "quantized_relative_change": "quantized: relative change",
    "relative_error": "relative rounding error",
    "results_in_all": "numbers in all",
    "stored_bits": "bits stored",
    "table_bits": "bits in tables",
    "w_operator_1": "‖W‖₁ of the operator",
    "w_operator_2": "‖W‖₂ of the operator",
    "w_operator_inf": "‖W‖∞ of the operator",
    "w_reshaped_1": "‖W‖₁ of the kernel",
    "w_reshaped_2": "‖W‖₂ of the kernel",
    "w_reshaped_inf": "‖W‖∞ of the kernel",
    "weight_bits": "bits of weights and biases",
}

#: Words of the page and what they mean.
GLOSSARY = {
    "ε (epsilon)": "how far an attacker may change an input",
    "LSB": "one step of the input grid; for an image 1/256 of the range",
    "L∞, L2, L1, L0": "how a change is measured: largest step, Euclidean length, sum of steps, number of features",
    "victim": "what is attacked: float model, quantized QKeras model, or the accelerator",
    "bitsim, csim": "two simulators of the accelerator with the same bits: our fast one, and hls4ml's generated C++",
    "white-box": "the attacker knows the model",
    "black-box": "the attacker has a model of his own and only shows the victim its examples",
    "transfer": "examples made on another model of the run",
    "unaware, aware": "whether who made the examples knows the victim's defence; aware where there is none",
    "worst case": "an input counts as robust only if every attack fails; an upper bound of the true robustness",
    "flag": "a sign that masked gradients or a broken attack spoil a number",
    "EBOPs": "multiplications, weighted by the bits of both factors",
    "reuse factor": "how often one multiplier is used for one inference",
}


def in_words(key: str) -> str:
    """A key as a person reads it."""
    return WORDS.get(key, key.replace("_", " "))
