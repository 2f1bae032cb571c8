"""Defences before the network, and victims behind them. Training defences are methods of `qmodels.training`."""

from qmodels.defences.config import DefenceConfig, PixelDefendConfig, SqueezingConfig
from qmodels.defences.filters import BitDepth, Chain, Filter, Identity, Median
from qmodels.defences.victims import Defence, DefendedVictim, TemperedModel, defended, detector

__all__ = [
    "BitDepth",
    "Chain",
    "Defence",
    "DefenceConfig",
    "DefendedVictim",
    "Filter",
    "Identity",
    "Median",
    "PixelDefendConfig",
    "SqueezingConfig",
    "TemperedModel",
    "defended",
    "detector",
]
