"""The session that speaks the kernel's protocol itself, in reader threads."""
