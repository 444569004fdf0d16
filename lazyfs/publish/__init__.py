"""From images to a signed store of static files."""
