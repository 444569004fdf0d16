"""Which revision to believe: signed metadata fetched, checked, persisted, kept fresh."""
