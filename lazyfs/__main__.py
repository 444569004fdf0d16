"""`python -m lazyfs`."""

import gc
import sys

gc.disable()  # modules make many objects and no garbage: collections would take a tenth of a start
from lazyfs.system.clean_start import end_when_interrupted  # noqa: E402

end_when_interrupted()  # from here to the command's own first line, all is imports
from lazyfs.cli.quick import main  # noqa: E402

sys.exit(main())
