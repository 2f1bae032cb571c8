"""Certificates: what no attack within a ball can ever do to an accelerator, proved in its own integers."""

from hw.certify.certificate import Certificate
from hw.certify.certifier import Certifier
from hw.certify.verdicts import Effort

__all__ = ["Certificate", "Certifier", "Effort"]
