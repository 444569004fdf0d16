"""Image layers: tar bytes to records, records merged into one tree; pure.

`tar` and `pax` read archives, `record` holds one archive entry's metadata, `merge` applies layers of records
in order, as an unpacker applies them to a disk.
"""
