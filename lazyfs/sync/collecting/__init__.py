"""Collects reports and makes profiles of them. Each report comes from a worker, and lists the objects that a
start of a program has read. Decides who may report and which reports count."""
