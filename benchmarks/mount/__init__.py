"""The processor time of `lazyfs mount`."""
