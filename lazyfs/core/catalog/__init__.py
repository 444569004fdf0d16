"""Catalogs: the metadata of one subtree as one object; catalogs nest.

`inode` is the tree that a publisher builds, `builder` turns it into catalogs, `entry` and `layout` define the
content of a catalog, `reader` looks names up in one.
"""
