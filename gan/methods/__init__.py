"""A training by each method: from a plan to a generator, and what it spent of its release."""
