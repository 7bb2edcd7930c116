"""The settings of `headwater up`: when it gives up, when it ends what does not answer, and its log."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from headwater_shared.settings import Duration, Section, Size


class UpSettings(Section, frozen=True, forbid_unknown_fields=True):
    """`headwater up`, which keeps agent and cloud side running; it reads this at its own start only."""

    restarts: Annotated[
        int,
        Meta(
            ge=1,
            description="So often one part may exit and be started again ...",
        ),
    ] = 20
    within: Annotated[
        Duration,
        Meta(
            description="... in so long a time; once more, and all is ended with exit code 70: a service manager may begin anew."
        ),
    ] = "15m"
    unanswered: Annotated[
        Duration,
        Meta(
            description="A part that runs, and for so long does not answer its health, or whose loop stands still, is ended and started again."
        ),
    ] = "60s"
    log_file: Annotated[
        str | None,
        Meta(
            description="File that all logs go to, relative to the data folder; without it they go where `headwater up` was started "
            "(a terminal, systemd's journal).",
            examples=["headwater.log"],
        ),
    ] = None
    log_size: Annotated[
        Size, Meta(description="A log file of this size becomes log_file.1, the one before log_file.2, ...")
    ] = "10MB"
    log_files: Annotated[
        int, Meta(ge=1, le=1000, description="So many files are kept, the one in use among them.")
    ] = 5
