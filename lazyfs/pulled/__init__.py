"""Images that are not in a mounted repository: pulled once, unpacked, and kept for this user's next jobs."""
