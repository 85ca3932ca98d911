"""A blinded reader study: the page, its key, the answers, and what they say."""
