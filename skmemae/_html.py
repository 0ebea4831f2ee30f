"""What notebooks show of a detector: links to the documentation, and what "auto" came to."""

from sklearn.base import BaseEstimator

DOCUMENTATION = "https://skmemae.readthedocs.io/en/stable/"  # where docs/ is published


class DocumentedDetector(BaseEstimator):
    """scikit-learn's HTML repr with the project's documentation and the resolved parameters."""

    _doc_link_module = "skmemae"
    _doc_link_template = DOCUMENTATION + "generated/{estimator_module}.{estimator_name}.html"

    def _get_params_html(self, *args, **kwargs):
        """scikit-learn's table of parameters, from 1.7 on, with what None and "auto" came to in ``fit``."""
        table = super()._get_params_html(*args, **kwargs)
        for name, resolved in getattr(self, "resolved_params_", {}).items():
            given = table.get(name)
            if given in (None, "auto") and resolved != given:
                table[name] = _Resolved(given, resolved)
        return table


class _Resolved:
    """A parameter whose repr tells what it came to."""

    def __init__(self, given, resolved):
        self._text = f"{given!r} → {resolved!r}"

    def __repr__(self):
        return self._text
