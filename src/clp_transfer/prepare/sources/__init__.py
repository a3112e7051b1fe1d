"""Where texts come from: wheels, hub data sets, paths and URLs, all as files with a name, a fingerprint and a fetch."""

from clp_transfer.prepare.sources.locate import locate
from clp_transfer.prepare.sources.source_file import SourceFile

__all__ = ["SourceFile", "locate"]
