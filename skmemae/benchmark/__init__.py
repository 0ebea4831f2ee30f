"""Benchmark protocols that compare MemAEDetector with other detectors: ``python -m skmemae.benchmark``."""
