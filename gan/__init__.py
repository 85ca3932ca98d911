"""The malignancy-conditioned generator of mammography mass patches."""
