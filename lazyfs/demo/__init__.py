"""The main use of lazyfs on one machine, told step by step: image, publish, serve, mount, run."""
