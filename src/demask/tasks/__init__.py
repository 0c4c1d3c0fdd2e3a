"""Tasks, each on one screen: where its data come from, what measures it, what it reports."""
