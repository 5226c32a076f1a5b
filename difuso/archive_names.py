"""Names of files in zip archives, as people wrote them."""

import unicodedata
import zipfile
from contextlib import suppress

UTF8 = 1 << 11  # the flag of APPNOTE.TXT, appendix D, which macOS does not set although it writes UTF-8


def composed(name: str) -> str:
    """Returns a name with composed letters: macOS decomposes them in archives, and tables have what was typed."""
    return unicodedata.normalize("NFC", name)


def name_of(info: zipfile.ZipInfo) -> str:
    """Returns the name of an entry: in UTF-8 where it can be, else as Python reads it, in code page 437."""
    name = info.filename
    if not info.flag_bits & UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return composed(name)
