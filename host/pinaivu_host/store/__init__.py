"""Accounts, keys, the journal of leaves and its projections, in SQL."""
