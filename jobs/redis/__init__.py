"""What front ends and workers keep in Redis."""
