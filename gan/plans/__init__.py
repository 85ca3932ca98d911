"""What each stage will promise, planned before any image is read or drawn.

A plan is made of settings, statements and manifests alone, and imports neither torch nor networks:
a dry run of one stage, or of a study of hundreds, says at once what it would spend.
"""
