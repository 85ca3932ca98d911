"""The networks of a generator, and how images are drawn from them."""
