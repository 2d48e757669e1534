"""The negative control: images of noise with labels that say nothing of them.

    python results/noise.py noise.npz && imae-compare --datasets=noise.npz --seeds=0 --workdir=W
"""

import sys

import numpy as np

rng = np.random.default_rng(0)
x = rng.integers(0, 256, (6000, 8, 8, 1)).astype("uint8")
np.savez(sys.argv[1], x=x, y=rng.integers(10, size=6000))
