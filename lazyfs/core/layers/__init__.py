"""Image layers: tar bytes to records, records merged into one tree; pure.

`tar` and `pax` read archives, `record` is what one archive entry says, `merge` applies layers of records in
order the way an unpacker applies them to a disk.
"""
