"""Reading from Redis with bounded size.

Somebody else who can write to Redis must not fill the memory of its readers, nor keep them busy. So Redis measures each
value before it sends it, and replaces one that is too long by an empty value, which no parser accepts. Each `ask_`
function sends one command by a client, and returns the answer, or adds it to a pipeline. "Yields" describes the answer.
"""

from collections.abc import Sequence
from typing import Any

MAX_ID = 36  # bytes
MAX_FIELD = 1 << 16  # bytes of one field of a job's record, or of its progress; difuso writes less than 8 KiB
MAX_DATA = 8 * MAX_FIELD  # bytes of the field `data`, which has the conditions of a job
MAX_TIMESTEPS = 1 << 22  # bytes; the 10,000 timesteps that a model has at most take a tenth, with all digits
MAX_REPORT = 1 << 16  # bytes
MAX_ENTRIES = 10_000  # entries of a hash, approximately
MAX_BYTES = 1 << 22  # bytes of a whole hash

_RECORDS = """
local answers, texts = {}, tonumber(ARGV[2])
local function value(most, measure, get, ...)
  local size = redis.pcall(measure, ...)  -- an error if another program has written a value of another type
  if type(size) ~= 'number' or size > most then return '' end
  return redis.call(get, ...)
end
for i = 1, #KEYS, 1 + texts do
  local fields, found = {}, {}
  for j = 3 + texts, #ARGV do
    local most = ARGV[j] == 'data' and 8 * ARGV[1] or tonumber(ARGV[1])
    fields[#fields + 1] = value(most, 'HSTRLEN', 'HGET', KEYS[i], ARGV[j])
  end
  for j = 1, texts do found[j] = value(tonumber(ARGV[2 + j]), 'STRLEN', 'GET', KEYS[i + j]) end
  answers[#answers + 1] = {fields, found}
end
return answers
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


def ask_records(client: Any, records: Sequence[Sequence[str]], *fields: str, sizes: Sequence[int] = ()) -> Any:
    """Reads fields of hashes, and strings with each: their keys follow the hash's key.

    Yields for each hash a list of the fields and a list of the strings; each item is bytes, or None if it does not
    exist.

    Args:
        sizes: the most bytes of each of the strings.
    """
    names = [key for record in records for key in record]
    return client.eval(_RECORDS, len(names), *names, MAX_FIELD, len(sizes), *sizes, *fields)


def ask_entries(client: Any, key: str, *, size: int) -> Any:
    """Reads a hash whose values have at most `size` bytes. Yields an answer that `entries` reads."""
    # Some servers count names and values separately, so COUNT is twice MAX_ENTRIES.
    return client.eval(_ENTRIES, 1, key, 2 * MAX_ENTRIES, size, MAX_BYTES)


def entries(answer: Sequence[bytes]) -> dict[bytes, bytes]:
    """Returns a hash from the answer to `ask_entries`."""
    return dict(zip(answer[::2], answer[1::2], strict=True))


def ask_since(client: Any, queue: str, records: str) -> Any:
    """Reads when the first job of a queue was queued; `records` is the prefix of job keys. Yields bytes or None."""
    return client.eval(_SINCE, 1, queue, records, MAX_ID)
