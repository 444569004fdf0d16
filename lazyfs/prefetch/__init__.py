"""Everything that is fetched before it is asked for.

`prefetcher.Prefetcher` is the way in. `policy`, `readahead`, `neighbours`, `programs`, `profile_schedule` and
`upper_choice` are pure: from reads and entries, and the time where it counts, they choose objects to fetch.
`queue`, `profiles` and `upper_catalogs` fetch them in the event loop.
"""
