"""What looks at a study and tells about it, and runs nothing."""
