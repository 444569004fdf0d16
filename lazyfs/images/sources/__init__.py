"""Where images and trees come from: each source streams its layers once."""
