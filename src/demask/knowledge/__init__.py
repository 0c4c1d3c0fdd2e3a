"""What the documents say, made testable."""
