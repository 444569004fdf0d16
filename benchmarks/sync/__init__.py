"""Time and memory of a service's first run, compared with skopeo sync and umoci unpack of the same images."""
