"""Weights of a network, trained with and without privacy."""
