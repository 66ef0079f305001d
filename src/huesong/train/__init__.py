"""Stage 3: the critic, the network, the rewards."""
