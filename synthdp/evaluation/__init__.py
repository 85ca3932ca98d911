"""Figures from predictions: metrics, intervals by patient."""
