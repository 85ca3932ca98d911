"""Settings: classes, values by their types, YAML 1.2, spellings of a path."""
