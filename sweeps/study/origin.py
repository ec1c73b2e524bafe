"""Where an imported study comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from resnet_core import schema


@dataclass(frozen=True)
class Origin:
    """Where an imported study comes from.

    Attributes:
        file: name of the file or folder, without its path.
        sha256: SHA-256 of its content in hexadecimal digits; for a folder, of the names and contents of its files.
        digest: digest of the imported study, options included. Imports with equal digests are the same study.
    """

    file: str
    sha256: str
    digest: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values, for the ledger."""
        return asdict(self)

    def tags(self) -> dict[str, str]:
        """Return the tags of the study's parent run in MLflow; analysis reads the first."""
        return {
            schema.IMPORTED: self.file,
            schema.IMPORTED_SHA256: self.sha256,
            schema.IMPORTED_DIGEST: self.digest,
        }

    @classmethod
    def of_tags(cls, tags: Mapping[str, Any]) -> Origin | None:
        """Return the origin that ``tags`` wrote; None for a study that was run here."""
        if schema.IMPORTED not in tags:
            return None
        return cls(tags[schema.IMPORTED], tags.get(schema.IMPORTED_SHA256, ""), tags.get(schema.IMPORTED_DIGEST, ""))
