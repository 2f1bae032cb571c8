"""Input gradients of an accelerator's network, in integers on this machine's vector units."""

from hw.simulate.gradients.engine import Gradients, gradients_of

__all__ = ["Gradients", "gradients_of"]
