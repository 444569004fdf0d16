"""Time and memory of publishing a large image, compared in the same run with skopeo and umoci."""
