"""The ways to run the same work, and what each of them makes of it."""
