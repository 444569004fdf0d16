"""The status site: static pages, feeds and JSON of a service, made anew at each run."""
