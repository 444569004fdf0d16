"""Objects by digest: from the cache, or fetched, verified and admitted."""
