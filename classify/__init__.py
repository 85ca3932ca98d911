"""The transformer classifier: pretraining, fine-tuning with differential privacy, evaluation."""
