"""Time and memory of publishing a large image, against skopeo and umoci in the same run."""
