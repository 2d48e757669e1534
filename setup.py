"""Packaging of imae_tf; `trainers/` and `export/` install inside the package."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "imae_tf/__init__.py").read_text(), re.MULTILINE
).group(1)

# What imae-serve and the client need beyond TensorFlow.
SERVING = [
    "grpcio>=1.85,<2",  # 1.70 inflates a compressed message whole before it refuses it
    "httpx>=0.28,<1",
    "starlette>=1.0,<2",
    "tensorflow-serving-api>=2.19,<2.22",
    "uvicorn>=0.40,<1",
]

setuptools.setup(
    name="imae_tf",
    version=VERSION,
    description=(
        "Information Maximization Autoencoder for Keras 3 and TensorFlow: unlabelled"
        " images to a category y and a few continuous factors z"
    ),
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    package_dir={
        "imae_tf": "imae_tf",
        "imae_tf.trainers": "trainers",
        "imae_tf.export": "export",
    },
    packages=[
        *setuptools.find_packages(include=["imae_tf", "imae_tf.*"]),
        "imae_tf.trainers",
        *(f"imae_tf.{name}" for name in setuptools.find_packages(include=["export", "export.*"])),
    ],
    package_data={
        "imae_tf": ["py.typed"],
        "imae_tf.example": ["example.keras"],
        "imae_tf.reporting": ["templates/*"],
        "imae_tf.export": ["tf_serving/*"],
        "imae_tf.export.server": ["page.html"],
    },
    install_requires=[
        "absl-py>=2.1,<3",
        "jinja2>=3.1,<4",
        "keras>=3.15,<3.16",
        "keras-tuner>=1.4.8,<1.5",
        "matplotlib>=3.9,<4",
        "numpy>=1.26,<3",
        "pillow>=10.3,<14",
        "scikit-learn>=1.5,<2",
        "scipy>=1.13,<2",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<4.10",
        # tfp.distributions needs tf_keras, which only the [tf] extra brings.
        "tensorflow-probability[tf]>=0.25,<0.26",
        # tensorflow-probability imports distutils, which Python 3.12 leaves to setuptools.
        "setuptools>=68",
        # tensorflow-datasets imports it to look up a builder, and does not declare it.
        "importlib_resources>=6.0",
        "tqdm>=4.66,<5",
        # keras-tuner fails every trial in silence without it; TensorFlow no longer brings it.
        "tensorboard>=2.20,<2.22",
    ],
    extras_require={
        "serving": SERVING,
        "test": [
            "hypothesis>=6.100,<7",
            "mypy>=2.0,<3",
            "pytest>=8.2,<10",
            "pytest-xdist>=3.8,<4",
            "PyYAML>=6,<7",
            "ruff>=0.14,<1",
            *SERVING,
        ],
        # sphinx-build -W -n --keep-going docs BUILD
        "docs": ["furo>=2025.9", "myst-parser>=5.0,<6", "sphinx>=9.0,<10", *SERVING],
        # The baseline of benchmarks/step.py; the CPU wheel will do.
        "benchmarks": ["torch>=2.6"],
    },
    entry_points={
        "console_scripts": [
            "imae-train = imae_tf.trainers.train:cli",
            "imae-quickstart = imae_tf.trainers.quickstart:cli",
            "imae-compare = imae_tf.trainers.compare:cli",
            "imae-tune = imae_tf.trainers.tune:cli",
            "imae-evaluate = imae_tf.trainers.evaluate:cli",
            "imae-export = imae_tf.export.export:cli",
            "imae-encode = imae_tf.export.encode:cli",
            "imae-serve = imae_tf.export.server.serve:cli",
        ]
    },
)
