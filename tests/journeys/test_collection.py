"""Where and why a file could not be loaded, out of pytest's text."""

import pytest

from stormwatch.journeys.collection import place_and_cause

CASES = {
    "import": (
        (
            "ImportError while importing test module '/s/test_it.py'.\nHint: make sure your test modules/packages have valid "
            "Python names.\nTraceback:\n/usr/lib/python3.11/importlib/__init__.py:126: in import_module\n    return x\n"
            "test_it.py:4: in <module>\n    import nowhere\nE   ModuleNotFoundError: No module named 'nowhere'"
        ),
        ("test_it.py:4", "ModuleNotFoundError: No module named 'nowhere'"),
    ),
    "syntax": (
        'E     File "/s/test_it.py", line 5\nE       def test_it(:\nE                   ^\nE   SyntaxError: invalid syntax',
        ("/s/test_it.py:5", "SyntaxError: invalid syntax"),
    ),
    "usage": (
        "ERROR: file or directory not found: /s/test_it.py\n",
        ("", "file or directory not found: /s/test_it.py"),
    ),
    "library": (
        (
            "conftest.py:9: in <module>\n    x = Path('a').read_text()\n/usr/lib/python3.11/pathlib.py:1044: in open\n"
            "    return io.open(self)\nE   FileNotFoundError: [Errno 2] No such file or directory: 'a'\n"
        ),
        ("conftest.py:9", "FileNotFoundError: [Errno 2] No such file or directory: 'a'"),
    ),
    "conftest": (
        (
            "ImportError while loading conftest '/s/conftest.py'.\nconftest.py:2: in <module>\n    1 / 0\n"
            "E   ZeroDivisionError: division by zero\n"
        ),
        ("conftest.py:2", "ZeroDivisionError: division by zero"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_place_and_cause_are_read_from_pytests_text(name: str) -> None:
    text, expected = CASES[name]
    assert expected == place_and_cause(text)
