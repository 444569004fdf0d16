"""The load of cold starts on a site's proxy and on the origin behind it."""
