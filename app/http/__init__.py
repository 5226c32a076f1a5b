"""HTTP: connections, headers, keys and problems, for every request."""
