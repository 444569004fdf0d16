"""A lazy-loading, content-addressed container filesystem."""
