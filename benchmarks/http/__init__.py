"""What a request costs: the client that lazyfs uses beside its peers."""
