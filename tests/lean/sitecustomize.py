"""Start-up of the processes that tests start, where `PYTHONPATH` names this folder.

Booklet loads every package that it has a serializer for, which takes most of the life of a short
process. To these, no package for frames is installed.
"""

import sys

_FRAMES = ("geopandas", "pandas", "pyarrow", "shapely")

sys.modules.update(dict.fromkeys(_FRAMES))  # type: ignore[arg-type]  # None: not to be imported
