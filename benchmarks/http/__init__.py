"""The cost of a request: the HTTP client of lazyfs beside its peers."""
