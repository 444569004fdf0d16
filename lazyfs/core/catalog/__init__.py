"""Catalogs: the metadata of one subtree as one object; catalogs nest.

`inode` is what a publisher builds, `builder` turns it into catalogs, `entry` and `layout` say what is in one,
`reader` answers from one.
"""
