"""Reports of the files that programs read at their start, sent to a collector if the mount's settings say
so."""
