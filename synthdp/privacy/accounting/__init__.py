"""What releases cost: curves of one Gaussian, sampled steps, many of them; how a curve is read."""
