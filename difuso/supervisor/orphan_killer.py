"""The process that outlives a killed supervisor for a moment, to end its children; see `child_processes`."""

import os
import shutil
import signal
import sys
import time

GRACE_SECONDS = 3.0


def main() -> None:
    """Waits until standard input closes, then ends this process group and deletes the folder named by argv[1]."""
    sys.stdin.buffer.read()  # returns when the supervisor is gone, for whatever reason
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
