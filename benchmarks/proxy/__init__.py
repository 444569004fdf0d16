"""The load that cold starts put on a site's proxy, and on the origin behind it."""
