"""How models of one site do at another: figures at sites, what is lost, and the paper's drops."""
