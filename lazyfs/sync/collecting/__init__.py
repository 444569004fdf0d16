"""Collects the reports of workers on what starts of programs read, and makes profiles of them: decides who
may report and which reports count."""
