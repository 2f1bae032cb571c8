"""What an accelerator will cost, from hls4ml's graph after its passes, without synthesis."""

from hw.cost.estimate import Cost, LayerCost, estimate_cost
from hw.cost.memory import bram_blocks

__all__ = ["Cost", "LayerCost", "bram_blocks", "estimate_cost"]
