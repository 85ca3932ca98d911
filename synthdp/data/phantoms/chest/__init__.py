"""Chest radiographs that are drawn: free of privacy cost, to a public table or public rates."""
