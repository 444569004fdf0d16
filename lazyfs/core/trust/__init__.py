"""Which revision to believe: The Update Framework's rules as pure functions of bytes and a clock.

The rules are the client workflow of the TUF specification 1.0 (section 5) on the data model of
`tuf.api.metadata`; who fetches and who keeps the bytes is the caller's business.
"""
