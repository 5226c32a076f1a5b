"""Breaks difuso's own processes, again and again, while clients ask for images, and counts which promises held.

    orders, schedule     the requests and the faults with their moments, drawn from one seed before anything starts
    cluster, disk        the processes and the store's file system
    faults               how each thing is broken and mended
    client, receiver     what a client does and what it sees, and who hears of the ends of its jobs
    worker_logs, leftovers, verdict     the result of the run

`python -m benchmarks.chaos` runs it; docs/reliability.md explains its table.
"""
