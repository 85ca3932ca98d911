"""Public weights: the files and the hub they come from, whose they are, and which a model carries.

`weight_files` finds files, `weights` fits them to a network of timm. `known` lists networks whose
licence is known, and `carried` notes those that a model stands on.
"""
