"""From ancestors to the words: plan, statement, what a file states, the dossier's shape."""
