"""Checks before any process is started, so that a mistake is reported at once; each raises a UserError if it fails."""

import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import redis

from difuso.errors import UserError, user_errors
from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.redis.addresses import connect
from difuso.jobs.store.result_store import ResultStore


def check_port(host: str, port: int | None, *, setting: str) -> None:
    """Raises unless the port of a setting is free, or None."""
    if port is not None:
        bind(host, port, setting=setting).close()


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Returns a socket at the port of a setting; raises unless the port is free."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror}): set {setting} to another one"
        ) from error
    return bound


def check_device(name: str) -> None:
    """Raises unless workers can compute on a device.

    A device that may be missing is looked for in a process of its own, so that torch's memory ends with it.
    """
    if name not in ("auto", "cpu"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, user_errors():
            pool.submit(_pick, name).result()


def _pick(name: str) -> None:
    from difuso.worker.stepping.runner import pick_device

    pick_device(name)


def check_store(url: str) -> None:
    """Raises if the result store cannot be written. One that does not answer in time may recover."""
    store = open_store(url)
    try:
        store.check()
    except StoreUnavailable as error:
        cause = error.__cause__
        if not isinstance(cause, TimeoutError):
            reason = getattr(cause, "strerror", None) or cause  # the paths of its files say nothing
            raise UserError(f"DIFUSO_STORE_URL is {url}, which cannot be written: {reason}") from error


def open_store(url: str) -> ResultStore:
    """Returns the result store of a URL, which has connected to nothing yet."""
    try:
        return ResultStore(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"DIFUSO_STORE_URL is {url}, which cannot be used: {error}") from error


def check_redis(url: str) -> None:
    """Raises unless the Redis at this URL answers."""
    try:
        with connect(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise UserError(f"the Redis of REDIS_URL does not answer: {error}") from error
