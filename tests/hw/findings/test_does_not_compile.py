"""hls4ml 1.3.0 writes C++ that does not compile, or does not write it."""

from __future__ import annotations

import pytest
from helpers.findings import Finding


@pytest.mark.slow
@pytest.mark.gxx
def test_include_guard(finding: Finding) -> None:
    finding.stops(Exception, "was not declared")


@pytest.mark.slow
@pytest.mark.gxx
def test_missing_dense_class(finding: Finding) -> None:
    finding.stops(Exception, "DenseResource_rf_gt_nin")


def test_softmax_has_two_names(finding: Finding) -> None:
    names = finding.run()
    finding.still("struct Softmax_config2" in names["declared"] and "softmax_config2>" in names["called"])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the writer stops with its files open
def test_powers_of_two_are_not_written(finding: Finding) -> None:
    finding.stops(AttributeError, "has no attribute 'product'")


@pytest.mark.slow
@pytest.mark.gxx
def test_lstm_of_another_type(finding: Finding) -> None:
    finding.stops(Exception, "nnet_recurrent.h")
