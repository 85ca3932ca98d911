"""Self-contained HTML pages, and the page of a data set."""
