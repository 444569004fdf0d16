"""Time and memory of a service's first run, against skopeo sync and umoci unpack of the same images."""
