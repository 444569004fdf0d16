"""Decisions about space and order. Pure: no disk, no database, no clock of its own.

A cache on a disk and a simulation of one run the same code from here; they differ in where `Measures`,
`Charges` and `EvictionQueue` come from.
"""
