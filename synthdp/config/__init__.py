"""Settings: classes, values by their types, YAML 1.2, paths of one place."""
