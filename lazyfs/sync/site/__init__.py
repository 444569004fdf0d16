"""The status site: static pages, feeds and JSON about a service, rewritten at each run."""
