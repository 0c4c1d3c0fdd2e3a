"""What is minimised: terms over the scored tokens of a step, kept as sums and counts."""
