"""The process behind a mount: settings, start and end, control, status, metrics."""
