"""The benchmark of profiles that nobody recorded: guessed ones, and those that a new tag inherits."""
