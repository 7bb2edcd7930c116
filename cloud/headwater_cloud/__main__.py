"""`python -m headwater_cloud [SETTINGS] [--slot N | --sink]`: a process of the cloud side, without the command line's libraries."""

from __future__ import annotations

import sys


def _main(arguments: list[str]) -> int:
    """Each process imports what it needs, and no more."""
    if "--sink" in arguments:
        from headwater_cloud import sink_process

        return sink_process.main([word for word in arguments if word != "--sink"])
    from headwater_cloud.process import main

    return main(arguments)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
