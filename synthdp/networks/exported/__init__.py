"""A model as one file that runs without synthdp, and the card that goes with it."""
