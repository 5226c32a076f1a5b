"""The jobs in flight: whose trajectories share the next step, and what becomes of those that ended."""
