"""The tools of a node's operator: probe, doctor and bugreport. They look at mounts and machine from outside,
and none of them waits for anything without a deadline."""
