"""Untrusted images of requests: they are recognised, decoded and fitted to a model."""
