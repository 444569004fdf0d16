"""The shape of a repository as a filesystem, defined here and only here."""
