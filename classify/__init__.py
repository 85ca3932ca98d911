"""The transformer classifier: pretraining, fine-tuning with differential privacy, evaluation."""

#: By which `synthdp.own_packages` knows this package from others of its name.
PART_OF = "synthdp"
