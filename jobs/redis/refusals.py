"""Commands that Redis refuses because it can write nothing at the moment, whatever they write."""

import re

import redis

# No memory is left, its disk fails, it is a replica, or too few replicas follow it. redis-py has classes of its own for
# two of these, and tells the others by their text, to which a pipeline adds the command.
_TEXT = re.compile(r"(?:^|caused error: )(?:MISCONF|NOREPLICAS) ")


def takes_no_writes(error: Exception) -> bool:
    """Returns whether an error says that Redis answers, but can write nothing."""
    if isinstance(error, redis.exceptions.OutOfMemoryError | redis.exceptions.ReadOnlyError):
        return True
    return isinstance(error, redis.ResponseError) and _TEXT.search(str(error)) is not None
