"""The revision to trust: signed metadata fetched, checked, persisted, kept fresh."""
