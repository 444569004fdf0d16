"""Images as registries describe them: references, manifests, indexes, configs; pure."""
