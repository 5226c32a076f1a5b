"""`difuso trainer`: runs trainings of the queue, each as a `difuso train` of its own. Nothing here needs torch."""
