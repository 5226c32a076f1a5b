"""The jobs in flight: whose trajectories share the next step, and the results of those that ended."""
