"""Trainings as jobs: their datasets, and their records. Nothing here trains or needs torch."""
