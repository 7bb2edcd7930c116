#!/usr/bin/env python3
"""`healthy PORT`: ask the process of this container how it is, for docker's health check; exit code 1 if it is not well.

Health is served on the loopback only, so the question is asked inside. It needs nothing but Python.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request


def main(port: str) -> int:
    """Print what the process answers (docker keeps it: `docker inspect`), and return the exit code."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=4) as answer:
            print(answer.read().decode())  # noqa: T201 - it is a command
            return 0
    except urllib.error.HTTPError as unwell:  # 503: the body says why
        print(unwell.read().decode())  # noqa: T201
    except OSError as error:
        print(f"nobody answers on port {port}: {error}")  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
