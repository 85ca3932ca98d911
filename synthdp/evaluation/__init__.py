"""Figures from predictions: metrics, intervals by patient, differences, groups, noisy releases."""
