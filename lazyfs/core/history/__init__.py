"""The signed history of a repository: its format, its search, and the ways people name a revision."""
