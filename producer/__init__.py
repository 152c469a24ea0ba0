"""Makes jobs, follows them and compares their results."""
