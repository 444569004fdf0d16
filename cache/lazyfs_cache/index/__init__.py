"""The index: an LMDB database of what each value is charged, when it was last used, and who pins it. It knows
nothing of files. Nothing outside this folder imports lmdb."""
