"""The processor time of a missed object, stage by stage, compared with the same stages without lazyfs."""
