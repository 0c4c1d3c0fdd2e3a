"""Load models, and know what differs between their families."""
