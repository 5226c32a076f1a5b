"""The HTTP front end: it reads requests, queues jobs, and answers with the images that workers have stored."""
