"""The order of the rooms: a room imports only rooms named before it, at the top of a file or within a function."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "recbole_session"
SUPPORT = ("errors", "files", "interrupts", "live", "compat", "distributed")
ROOMS = ("config", "converters", "data", "model", "evaluator", "run", "compare", "tune", "report", "inference")
ORDER = (*SUPPORT, *ROOMS, "commands", "cli")
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_rooms(source: str) -> set[str]:
    """Rooms that a file names in its imports, wherever they are."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("recbole_session.")} & set(ORDER)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in FILES} - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(path: Path) -> None:
    room = room_of(path)
    if room not in ("__init__", "__main__"):
        assert imported_rooms(path.read_text(encoding="utf-8")) <= set(ORDER[: ORDER.index(room) + 1])


def test_imports_within_functions_count() -> None:
    source = "import os\ndef f():\n    from recbole_session import model\n    import recbole_session.data.atomic\n"
    assert imported_rooms(source) == {"model", "data"}


def test_data_and_converters_share_atomic_files_and_no_code() -> None:
    rooms = {room: [path for path in FILES if room_of(path) == room] for room in ("data", "converters")}
    assert not any("converters" in imported_rooms(path.read_text(encoding="utf-8")) for path in rooms["data"])
    assert not any("data" in imported_rooms(path.read_text(encoding="utf-8")) for path in rooms["converters"])
