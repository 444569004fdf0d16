"""The cost of a request: lazyfs's HTTP clients compared with other libraries."""
