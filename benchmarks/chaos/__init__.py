"""Breaks difuso's own processes, again and again, while clients ask for pictures, and counts which promises held.

    orders, schedule     what is asked for and what breaks when, drawn from one seed before anything starts
    cluster, disk        the processes and the store's file system
    faults               how each thing is broken and mended
    client               what a client does, and what it sees
    worker_logs, leftovers, verdict     what became of it all

`python -m benchmarks.chaos` runs it; docs/reliability.md tells what its table means.
"""
