"""Comparison of MemAEDetector with other detectors on data of scikit-learn: ``python -m skmemae.benchmark``."""
