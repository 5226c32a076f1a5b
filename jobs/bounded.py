"""Reading from Redis no more than difuso could have written there.

Whoever else can write to Redis must not fill the memory of those who read, nor keep them busy. So Redis itself measures
each value before it sends it: what is too long comes as an empty one, which no parser takes. Each function adds one
command to a pipeline, whose answer is described under "Yields".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_ID = 36
MAX_FIELD = 1 << 16  # of a job's record and progress: ours have less than 4 KiB
MAX_TIMESTEPS = 1 << 22  # 100,000 timesteps, the most that a model may have, with all of their digits
MAX_REPORT = 1 << 16
MAX_ENTRIES = 10_000  # of a hash, roughly
MAX_BYTES = 1 << 22  # of a hash, all together

_RECORD = """
local fields, texts = {}, {}
for i = #KEYS + 1, #ARGV do
  local size = redis.call('HSTRLEN', KEYS[1], ARGV[i])
  fields[i - #KEYS] = size > tonumber(ARGV[1]) and '' or redis.call('HGET', KEYS[1], ARGV[i])
end
for i = 2, #KEYS do
  texts[i - 1] = redis.call('STRLEN', KEYS[i]) > tonumber(ARGV[i]) and '' or redis.call('GET', KEYS[i])
end
return {fields, texts}
"""
_ENTRIES = """
local found, left = {}, tonumber(ARGV[3])
local entries = redis.call('HSCAN', KEYS[1], 0, 'COUNT', ARGV[1])[2]
for i = 1, #entries, 2 do
  local value = #entries[i + 1] > tonumber(ARGV[2]) and '' or entries[i + 1]
  local size = #entries[i] + #value
  if size <= left then
    left = left - size
    found[#found + 1] = entries[i]
    found[#found + 1] = value
  end
end
return found
"""
_SINCE = """
local id = redis.call('LINDEX', KEYS[1], 0)
if not id or #id > tonumber(ARGV[2]) then return false end
local record = ARGV[1] .. id
return redis.call('HSTRLEN', record, 'enqueued_at') <= 64 and redis.call('HGET', record, 'enqueued_at')
"""


def ask_record(pipe: Any, key: str, *fields: str, texts: dict[str, int] | None = None) -> None:
    """Some fields of a hash, and some strings by key with the most bytes that each may have.

    Yields a list of the fields and one of the strings; each is bytes, or None if it is not there.
    """
    texts = texts or {}
    pipe.eval(_RECORD, 1 + len(texts), key, *texts, MAX_FIELD, *texts.values(), *fields)


def ask_entries(pipe: Any, key: str, *, size: int) -> None:
    """A hash whose values have `size` bytes at most. Yields what `entries` takes."""
    # Servers differ in whether a value counts as well as its name.
    pipe.eval(_ENTRIES, 1, key, 2 * MAX_ENTRIES, size, MAX_BYTES)


def entries(answer: Sequence[bytes]) -> dict[bytes, bytes]:
    """The hash."""
    return dict(zip(answer[::2], answer[1::2], strict=True))


def ask_since(pipe: Any, queue: str, records: str) -> None:
    """When the next job of a queue joined it; `records` is what the keys of jobs begin with. Yields bytes or None."""
    pipe.eval(_SINCE, 1, queue, records, MAX_ID)
