"""scikit-learn's own checks under both conventions."""

import pytest
from sklearn.base import is_outlier_detector
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from skmemae import MemAEDetector

# PyOD codes labels as 0 and 1, and its decision function grows with abnormality; these checks assert the opposite.
LABEL_CODING = {
    "check_outliers_train": "labels are 0 and 1 in PyOD's convention",
    "check_outliers_fit_predict": "labels are 0 and 1 in PyOD's convention",
}


def few_epochs(convention):
    return MemAEDetector(max_epochs=5, random_state=0, convention=convention)


@parametrize_with_checks([few_epochs("sklearn")])
def test_sklearn_convention_keeps_the_whole_contract(estimator, check):
    check(estimator)


@parametrize_with_checks([few_epochs("pyod")], expected_failed_checks=lambda estimator: LABEL_CODING)
def test_pyod_convention_differs_in_label_coding_alone(estimator, check):
    check(estimator)


@pytest.mark.parametrize("convention", ["pyod", "sklearn"])
def test_checks_outside_the_suite(convention):
    assert is_outlier_detector(few_epochs(convention))
    check_param_validation("MemAEDetector", few_epochs(convention))
    pytest.importorskip("pandas")
    check_dataframe_column_names_consistency("MemAEDetector", few_epochs(convention))


@pytest.mark.parametrize("convention", ["pyod", "sklearn"])
def test_repr_and_html_say_what_was_changed(convention):
    detector = MemAEDetector(0.05, convention=convention)
    assert "contamination=0.05" in repr(detector)
    assert "MemAEDetector" in detector._repr_html_()
