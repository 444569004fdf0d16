"""Reports of what starts touched, sent to a collector if the mount's settings say so."""
