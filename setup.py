"""Packaging of imae_tf; `trainers/` and `export/` install inside the package."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "imae_tf/__init__.py").read_text(), re.MULTILINE
).group(1)

# What training and encoding need. docs/installing.md says which versions were tried.
CORE = [
    "absl-py>=2.1,<3",
    "filelock>=3.13,<5",
    "keras>=3.15,<3.16",  # older ones cannot read the trained model that the package brings
    "numpy>=1.26,<3",
    "pillow>=10.3,<14",
    # Starts are ranked by it, so that training needs it, not reports alone.
    "scikit-learn>=1.5,<2",
    "scipy>=1.13,<2",
    # tensorflow-probability imports distutils, which Python 3.12 leaves to setuptools.
    "setuptools>=68",
    # Curves and pictures are written with it, and TensorFlow 2.21 no longer brings it.
    "tensorboard>=2.18,<2.22",
    "tensorflow>=2.18,<2.22",
    # tfp.distributions needs tf_keras, which only the [tf] extra brings.
    "tensorflow-probability[tf]>=0.25,<0.26",
    "threadpoolctl>=3.5,<4",  # scikit-learn brings it, too
    "tqdm>=4.66,<5",
]

REPORT = ["Jinja2>=3.1,<4", "matplotlib>=3.9,<4"]

# The extras of programs. imae_tf/_shared/extras.py says which one is missing.
EXTRAS = {
    "data": [
        "tensorflow-datasets>=4.9.10,<4.10",
        # tensorflow-datasets imports it to look up a builder, and does not declare it.
        "importlib_resources>=6.0",
    ],
    "report": REPORT,
    "search": ["keras-tuner>=1.4.8,<1.5", *REPORT],  # a search ends with its page
    "serving": [
        "grpcio>=1.85,<2",  # 1.70 inflates a compressed message whole before it refuses it
        "httpx>=0.28,<1",
        "protobuf>=5",
        "starlette>=1.0,<2",
        "tensorflow-serving-api>=2.18,<2.22",
        "uvicorn>=0.40,<1",
    ],
}
ALL = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

setuptools.setup(
    name="imae_tf",
    version=VERSION,
    description=(
        "Information Maximization Autoencoder for Keras 3 and TensorFlow: unlabelled"
        " images to a category y and a few continuous factors z"
    ),
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The authors of imae_tf",
    license="Apache-2.0",
    keywords=[
        "unsupervised learning", "representation learning", "clustering", "disentanglement",
        "variational autoencoder", "mutual information", "Keras", "TensorFlow",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
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
    install_requires=CORE,
    extras_require={
        **EXTRAS,
        "all": ALL,
        "benchmarks": [*ALL, "torch>=2.6"],  # the baseline of step.py; the CPU wheel will do
        # sphinx-build -W -n --keep-going docs BUILD
        "docs": [*ALL, "furo>=2025.9", "myst-parser>=5.0,<6", "sphinx>=9.0,<10"],
        "test": [
            *ALL,
            "hypothesis>=6.100,<7",
            "mypy>=2.0,<3",
            "pytest>=8.2,<10",
            "pytest-xdist>=3.8,<4",
            "PyYAML>=6,<7",
            "ruff>=0.14,<1",
        ],
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
