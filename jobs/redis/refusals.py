"""Why Redis refuses a command: because it can write nothing at the moment, or because of the command and its data."""

import re

import redis

# No memory is left, its disk fails, it is a replica, or too few replicas follow it. redis-py has classes of its own for
# two of these, and recognises the others by their text, to which a pipeline adds the command.
_TEXT = re.compile(r"(?:^|caused error: )(?:MISCONF|NOREPLICAS) ")
# Redis reports a state of its own by a code; redis-py leaves out the plain ERR.
_STATE = re.compile(r"(?:^|caused error: )(?!WRONGTYPE )[A-Z]{2,} ")


def takes_no_writes(error: Exception) -> bool:
    """Returns whether an error says that Redis answers, but can write nothing."""
    if isinstance(error, redis.exceptions.OutOfMemoryError | redis.exceptions.ReadOnlyError):
        return True
    return isinstance(error, redis.ResponseError) and _TEXT.search(str(error)) is not None


def is_refused_for_good(error: Exception) -> bool:
    """Returns whether Redis refuses a command because of its data, so that a retry cannot help."""
    return type(error) is redis.ResponseError and _STATE.search(str(error)) is None
