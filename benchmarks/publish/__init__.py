"""How fast and in how much memory a large image is published, against skopeo and umoci in the same run."""
