"""Data sets as integer codes on the device's input grid.

8-bit images are pixels k in 0..255 that stand for k/256, unless `InputConfig` says otherwise. Other numbers are scaled
and rounded to a fixed-point format: given, read from the user's model, or chosen from the training data.
"""

from qmodels.data.builtin import DATA_DIR_VARIABLE, DATASETS, is_path
from qmodels.data.checks import as_pixels, check_arrays
from qmodels.data.dataset import Dataset, Split
from qmodels.data.files import read_npz
from qmodels.data.inputs import IMAGE_INPUTS, InputConfig, Inputs, RadiusConfig, Unit
from qmodels.data.load import load_data, with_channels

__all__ = [
    "DATASETS",
    "DATA_DIR_VARIABLE",
    "IMAGE_INPUTS",
    "Dataset",
    "InputConfig",
    "Inputs",
    "RadiusConfig",
    "Split",
    "Unit",
    "as_pixels",
    "check_arrays",
    "is_path",
    "load_data",
    "read_npz",
    "with_channels",
]
