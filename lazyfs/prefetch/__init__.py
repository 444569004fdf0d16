"""Everything that is fetched before it is asked for.

`prefetcher.Prefetcher` is the façade. `policy`, `readahead`, `dense_parts`, `neighbours`, `programs`,
`profile_schedule` and `upper_choice` are pure: they choose objects to fetch from reads, entries and, if
needed, the time. `queue`, `profiles` and `upper_catalogs` fetch them in the event loop.
"""
