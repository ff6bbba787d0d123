"""What the further processes of a training are told."""

from __future__ import annotations

from pydantic import Field

from cnnlab.settings.base import Count, Section


class RankOrder(Section):
    """What one of them needs to know; sent as JSON to its standard input, since it may hold a password."""

    settings: dict[str, object] = Field(description="of the training, as the first process has checked them")
    folder: str = Field(description="where the first process keeps checkpoints")
    own_folder: str | None = Field(description="the user's own folder of configuration: their code lies about there")
    state: str | None = Field(description="the checkpoint that the training goes on from")
    test: bool = Field(description="whether the best checkpoint is kept and measured; a trial has none")
    parent: Count = Field(description="process that has started this one and ends with it")
