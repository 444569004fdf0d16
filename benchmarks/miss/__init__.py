"""Processor time of a missed object, stage by stage, beside the processor time of the same stages without
lazyfs."""
