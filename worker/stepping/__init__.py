"""One loaded model, which steps any mix of trajectories as one batch."""
