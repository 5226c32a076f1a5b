"""Reading from Redis with bounded size.

Somebody else who can write to Redis must not fill the memory of its readers, nor keep them busy. So Redis measures each
value before it sends it, and replaces one that is too long by an empty value, which no parser accepts. Each `ask_`
function sends one command by a client, and returns the answer, or adds it to a pipeline. "Yields" describes the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_ID = 36  # bytes
MAX_FIELD = 1 << 16  # bytes of one field of a job's record, or of its progress; difuso writes less than 8 KiB
MAX_DATA = 8 * MAX_FIELD  # bytes of the field `data`, which has the conditions of a job
MAX_TIMESTEPS = 1 << 22  # bytes; the 10,000 timesteps that a model has at most take a tenth, with all digits
MAX_REPORT = 1 << 16  # bytes
MAX_ENTRIES = 10_000  # entries of a hash, approximately
MAX_BYTES = 1 << 22  # bytes of a whole hash

_RECORD = """
local fields, texts = {}, {}
for i = #KEYS + 1, #ARGV do
  local size = redis.call('HSTRLEN', KEYS[1], ARGV[i])
  local most = ARGV[i] == 'data' and 8 * ARGV[1] or tonumber(ARGV[1])
  fields[i - #KEYS] = size > most and '' or redis.call('HGET', KEYS[1], ARGV[i])
end
for i = 2, #KEYS do
  texts[i - 1] = redis.call('STRLEN', KEYS[i]) > tonumber(ARGV[i]) and '' or redis.call('GET', KEYS[i])
end
return {fields, texts}
"""
_RECORDS = """
local answers = {}
local function value(measure, get, ...)
  local size = redis.pcall(measure, ...)  -- an error if another program has written a value of another type
  local most = select(2, ...) == 'data' and 8 * ARGV[1] or tonumber(ARGV[1])
  if type(size) ~= 'number' or size > most then return '' end
  return redis.call(get, ...)
end
for i = 1, #KEYS, 2 do
  local fields = {}
  for j = 2, #ARGV do fields[j - 1] = value('HSTRLEN', 'HGET', KEYS[i], ARGV[j]) end
  answers[#answers + 1] = {fields, {value('STRLEN', 'GET', KEYS[i + 1])}}
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


def ask_record(client: Any, key: str, *fields: str, texts: dict[str, int] | None = None) -> Any:
    """Reads fields of a hash, and `texts`: strings by key, with the most bytes that each may have.

    Yields a list of the fields and a list of the strings; each item is bytes, or None if it does not exist.
    """
    texts = texts or {}
    return client.eval(_RECORD, 1 + len(texts), key, *texts, MAX_FIELD, *texts.values(), *fields)


def ask_records(client: Any, records: Mapping[str, str], *fields: str) -> Any:
    """Reads fields of many hashes, and one string with each: the string's key by the hash's key.

    Yields a list with what `ask_record` yields for each.
    """
    both = [key for pair in records.items() for key in pair]
    return client.eval(_RECORDS, len(both), *both, MAX_FIELD, *fields)


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
