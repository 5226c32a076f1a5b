"""The jobs of the Redis queue: claimed, read, recovered, reported and ended."""
