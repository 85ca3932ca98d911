"""synthdp: synthetic medical images and classifiers that keep a promise to each patient."""

__version__ = "0.1.0"
