"""The index: an LMDB database of each value's charge, last use and pins. It does not know of files. No module
outside this folder imports lmdb."""
