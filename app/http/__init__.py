"""HTTP: connections, headers, keys and problems, whatever is asked for."""
