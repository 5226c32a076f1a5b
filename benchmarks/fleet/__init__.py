"""Difuso's fleet on paper: a discrete-event simulation of front ends, Redis and workers, fed by measured rates.

    rates                        the figures that it is fed with
    probe, redis_acts            how they are measured, on the real stack and on a real Redis
    simulation, worker, engine   the fleet; slots are shared and jobs admitted by difuso's own functions
    jobs, servers                what moves through it, and what serves one request after the other
    events                       deaths, deploys, autoscaling
    trial, redis_load, studies   what the fleet is asked, and the tables
    validation                   the predictions for one and two workers beside real ones

It leaves out uploads, cancellations, guided images and jobs that kill their workers. Workers serve one model, Redis
never goes away, and the network takes no time beyond what was measured on one machine.
`python -m benchmarks.fleet` runs it; docs/operations.md says what follows for operators.
"""
