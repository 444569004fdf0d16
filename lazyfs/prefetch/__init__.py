"""Everything that is fetched before it is asked for."""
