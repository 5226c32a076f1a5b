"""Checks before any process is started, so that a mistake is reported at once; each raises a UserError if it fails."""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path

import redis

from difuso.errors import UserError
from jobs.catalog import read_catalog

MAX_PORT = 65535


def check_port(host: str, port: int, *, otherwise: str) -> None:
    """Returns if the port is free.

    Args:
        otherwise: advice for the message.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host} port {port} ({error.strerror}); {otherwise}") from error


def check_metrics_port(host: str, port: int | None) -> None:
    """Returns if the port of the API's metrics is free, or None."""
    if port is not None:
        check_port(host, port, otherwise="set DIFUSO_API_METRICS_PORT to another one")


def check_worker_metrics_ports(ports: Collection[int], api_ports: Collection[int | None]) -> None:
    """Returns if the ports of the workers' metrics exist, are free, and are not the API's."""
    for port in ports:
        if port > MAX_PORT or port in api_ports:
            reason = "there is no such port" if port > MAX_PORT else "that is the API's"
            raise UserError(
                f"a worker's metrics cannot be on port {port}: {reason}. {len(ports)} workers have the ports from "
                "DIFUSO_METRICS_PORT on; set it to another one"
            )
        check_port("0.0.0.0", port, otherwise="set DIFUSO_METRICS_PORT to another one")


def check_models(folder: Path) -> None:
    """Returns if the folder holds a model; its weights are checked by the worker."""
    catalog = read_catalog(folder)
    if not catalog.models:
        reasons = "".join(f"; {name}: {reason}" for name, reason in catalog.refused.items())
        raise UserError(f"no model in {folder}{reasons}. Set DIFUSO_MODELS_DIR to another folder")


def check_redis(url: str) -> None:
    """Returns if the Redis at this URL answers."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise UserError(f"the Redis of REDIS_URL does not answer: {error}") from error
