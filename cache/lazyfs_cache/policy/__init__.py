"""Decisions about space and order. Pure: no disk, no database, no clock of its own.

A cache on a disk and a simulation of one run this same code; they differ in their `Measures`, `Charges` and
`EvictionQueue`.
"""
