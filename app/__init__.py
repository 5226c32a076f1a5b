"""The HTTP front end: reads requests, queues jobs, answers with what workers stored; computes no picture itself."""
