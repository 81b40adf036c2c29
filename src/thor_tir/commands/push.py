"""The command that publishes a folder on a hub."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from thor_tir.console import ConsoleReporter


@dataclass(frozen=True, kw_only=True)
class Push:
    """Push a trained model or an exported data set to the Hugging Face hub, or to the one that HF_ENDPOINT names.

    A model goes with a card made from its run's record, a data set with the card of `thor tirgen card`. The repository
    is made where it is missing, private unless --public is given. Who may write there is the client's business: run
    `hf auth login` once, or set HF_TOKEN.
    """

    folder: tyro.conf.Positional[Path]
    """Folder of a run of sft or rl, of a model, or of TIRGen with its export."""
    name: tyro.conf.Positional[str]
    """Name on the hub, OWNER/NAME."""
    public: bool = False
    """True makes it visible to everybody."""
    licence: str = ""
    """Licence as the hub spells it, such as apache-2.0, for a model's card; none is claimed by default."""

    def run(self) -> None:
        """Send it, and say what was sent where."""
        from thor_tir.app.push import find_upload, push

        upload = find_upload(self.folder, self.name, self.licence)
        push(upload, self.name, is_public=self.public, say=ConsoleReporter().say)
