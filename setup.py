"""Installation of recbole-session; settings of the tools live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="recbole-session",
    version="0.1.0",
    description="Session-aware sequential recommendation for RecBole",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["recbole_session", "recbole_session.*"]),
    package_data={
        "recbole_session": ["py.typed", "config/properties/*.yaml", "config/properties/*/*.yaml", "report/*.jinja"]
    },
    # RecBole 1.2.1 demands ray<=2.6.3, which has no wheel for Python 3.12 and later.
    python_requires=">=3.11,<3.12",
    install_requires=[
        "recbole==1.2.1",
        "torch>=2.13,<3",  # 2.13.0 is what the tests run on
        "numpy>=1.26,<3",
        "pandas>=2.3,<4",
        "pyyaml>=6",
        "jinja2>=3.1",
        "tqdm>=4.60",
    ],
    extras_require={
        "test": [
            "pytest>=8.2",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "ruff>=0.6",
            # What is tested where it is installed; spark is left to those who have it.
            "duckdb>=1.1",
            "matplotlib>=3.8",
            "optuna>=4",
            "pooch>=1.8",
            "pyarrow>=15",
        ],
        "tune": ["optuna>=4"],
        # What `recbole-session export` needs; serving needs onnxruntime and numpy alone.
        "export": ["onnx>=1.19", "onnxscript>=0.5", "onnxruntime>=1.20"],
        "plot": ["matplotlib>=3.8"],
        "duckdb": ["duckdb>=1.1"],
        "spark": ["pyspark>=3.5", "pyarrow>=15"],
        "parquet": ["pyarrow>=15"],
        "download": ["pooch>=1.8"],
    },
    entry_points={"console_scripts": ["recbole-session=recbole_session.cli:main"]},
)
