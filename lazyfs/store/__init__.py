"""Where published files lie: objects, and the few metadata names that change."""
