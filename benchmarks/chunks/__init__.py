"""Which chunk size and catalog size a repository should have: counts of a real start for each."""
