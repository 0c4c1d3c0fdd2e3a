"""Training on several processes and machines: who starts them, watches them, and hears how far they are."""
