"""Ways to train beside each other: arms, a grid of runs, their results, statistics, tables and figures."""
