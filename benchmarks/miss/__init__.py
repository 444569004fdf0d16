"""Processor time that a missed object costs, stage by stage, beside what the stages cost without lazyfs."""
