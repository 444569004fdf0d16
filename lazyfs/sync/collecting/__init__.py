"""Collecting of workers' reports: who may report, what counts, and the profiles that are made of it."""
