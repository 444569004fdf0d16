"""Counts requests and bytes of a real start for several chunk and catalog sizes. The defaults of a repository
were chosen from these counts."""
