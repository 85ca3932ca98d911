"""How images look: alike or the same, their spectrum, some of them on one sheet."""
