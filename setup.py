"""Installation of recbole-session; settings of the tools live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

EXTRAS = {
    "plot": ["matplotlib>=3.8"],
    "tune": ["optuna>=4.9"],
    # What `recbole-session export` needs; serving needs onnxruntime and numpy alone.
    "export": ["onnx>=1.19", "onnxscript>=0.5", "onnxruntime>=1.20"],
    "parquet": ["pyarrow>=15"],
    "spark": ["pyspark>=3.5", "pyarrow>=15"],
    "download": ["pooch>=1.8"],
    "completion": ["argcomplete>=3"],
    "wandb": ["wandb>=0.17"],
    "mlflow": ["mlflow-skinny>=3"],
}

setup(
    name="recbole-session",
    version=re.search(r'__version__ = "(.+)"', (HERE / "recbole_session" / "__init__.py").read_text())[1],
    description="Session-aware sequential recommendation for RecBole",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the recbole-session authors",
    license="MIT",
    license_files=["LICENSE"],
    url="https://doi.org/10.1145/3477495.3531910",
    project_urls={
        "Paper": "https://doi.org/10.1145/3477495.3531910",
        "RecBole": "https://recbole.io",
    },
    keywords=["recommender systems", "sequential recommendation", "session-aware", "RecBole", "BERT4Rec", "SASRec"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["recbole_session", "recbole_session.*"]),
    include_package_data=True,  # what MANIFEST.in names
    python_requires=">=3.11",
    # RecBole itself is not here: it pins ray<=2.6.3, which it does not need for any of this and which has no wheel
    # for Python 3.12 and later. One more line installs it without what it pins (`compat.require_recbole` names it).
    # What RecBole imports is here in its place.
    install_requires=[
        "torch>=2.7.1,<3",  # the oldest that CI runs the tests on
        "numpy>=1.26,<3",
        "pandas>=2.3,<4",
        "scipy>=1.11",
        "scikit-learn>=1.3",
        "pyyaml>=6",
        "jinja2>=3.1",
        "tqdm>=4.60",
        "tensorboard>=2.14",
        "colorama>=0.4.4",
        "colorlog>=4.7.2",
        "texttable>=1.6",
        "duckdb>=2,<3",  # 2.0 is what the tests run on
        "filelock>=3.12",
        "rich>=13",
    ],
    extras_require={
        **EXTRAS,
        "test": [
            "pytest>=8.2",
            "setuptools>=70.1,<81",  # builds the wheel that the tests install
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "ruff>=0.6",
            "nbclient>=0.10",
            "ipykernel>=6.29",
            "selenium>=4.20",  # with Chromium and chromedriver, for the page of the report
            *EXTRAS["plot"],
            *EXTRAS["tune"],
            *EXTRAS["spark"],  # its tests also need Java 17 or later
            *EXTRAS["download"],
            *EXTRAS["completion"],
        ],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
    },
    entry_points={"console_scripts": ["recbole-session=recbole_session.cli:main"]},
)
