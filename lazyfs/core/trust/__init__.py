"""The rules by which a revision is trusted: The Update Framework's, as pure functions of bytes and a clock.

They are the client workflow of the TUF specification 1.0 (section 5) on the data model of `tuf.api.metadata`.
The caller fetches the bytes and keeps them.
"""
