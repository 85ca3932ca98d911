"""The process and its machine: streams, progress, signals, workers, devices."""
