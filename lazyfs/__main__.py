"""`python -m lazyfs`."""

import gc
import sys

gc.disable()  # modules make many objects and no garbage: collections would take a tenth of a start
from lazyfs.cli.quick import main  # noqa: E402

sys.exit(main())
