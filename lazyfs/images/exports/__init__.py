"""Images that leave a repository: as files and layouts that other tools read."""
