"""``recbole-session export``: a trained model as an ONNX file that serves without torch and RecBole."""

import argparse
from pathlib import Path

HELP = "export a trained model to ONNX, with its id mapping"
EXAMPLES = ["export --run RUN_FOLDER --output model.onnx"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--run", dest="run_folder", type=Path, required=True, help="folder of a trained model")
    parser.add_argument("--format", choices=["onnx"], default="onnx", help="onnx (default)")
    parser.add_argument("--output", type=Path, help="where the graph goes (default: RUN_FOLDER/model.onnx)")


def run(arguments: argparse.Namespace) -> None:
    """Export, check, and say what was written."""
    from recbole_session.inference.export import check_output, export_onnx
    from recbole_session.inference.recommender import load

    path = arguments.output or arguments.run_folder / "model.onnx"
    check_output(path)
    difference = export_onnx(load(arguments.run_folder), path)
    print(f"{path} and {path.with_suffix('.json')}: onnxruntime and torch differ by at most {difference:.1e}")
