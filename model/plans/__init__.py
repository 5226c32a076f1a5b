"""The numbers of sampling: noise schedules, spacings, samplers and plans. They need NumPy and no torch."""
