"""What was spent, on disk: a run's ledger, a data set's record, its budget."""
