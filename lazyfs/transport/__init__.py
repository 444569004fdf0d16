"""The transfer of stored bytes: the Fetcher protocol and its implementations."""
