"""Many runs, compared: sweep, results table, report."""
