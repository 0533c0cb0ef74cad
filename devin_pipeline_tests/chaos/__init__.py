"""What is promised with figures: faults, kills, reads, flips and leaks, in doses that `--chaos` sets."""
