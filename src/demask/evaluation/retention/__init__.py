"""What else training changed: leaks, forgetting, drift, and in which forms facts can be asked for."""
