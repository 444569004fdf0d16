"""What a repository looks like as a filesystem, here and only here."""
