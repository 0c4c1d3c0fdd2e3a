"""Runs shown in trackers of others, beside the run folder, which stays the truth."""
