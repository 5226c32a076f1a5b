"""Images, drawn here or on a server."""
