"""Fits and updates: the steps from samples to a fitted model."""
