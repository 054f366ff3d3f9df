"""docs/operators.md says what the importer and the lists of exceptions say."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("QUADRILLE", ROOT / "build/bin/quadrille")).parent.parent


def test_the_table_is_what_the_generator_writes():
    environment = os.environ | {"QUADRILLE_BUILD": str(BUILD)}
    subprocess.run([ROOT / "tools/conformance", "host", "--filter", "test_abs"], check=True, capture_output=True,
                   env=environment)  # unpacks the tests
    written = subprocess.run([sys.executable, ROOT / "tools/operator_table.py"], check=True, capture_output=True, text=True,
                             env=environment).stdout
    assert (ROOT / "docs/operators.md").read_text() == written, "run tools/operator_table.py > docs/operators.md"
