"""What lies in a cache directory; nothing here decides anything."""
