"""A run's folder: how a stage starts, resumes and ends, its inputs, its card, its audit."""
