"""Golden pixels of JPEGs: `pixels.py`, which lies beside this, makes them with those of the other formats.

Made with the versions that stand there:

    python tests/golden/pixels_jpeg.py tests/golden/pixels_jpeg.safetensors
"""

import sys
from pathlib import Path

from pixels import main

if __name__ == "__main__":
    main(Path(sys.argv[1]).with_name("pixels.safetensors"))
