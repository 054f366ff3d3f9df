"""README.md shows what the commands print."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))


def shape(line):
    """The words of a line, with N for numbers and U for units of time, which change with every better compiler; what limits
    a machine is a word that changes too, and stands last."""
    words = [re.sub(r"[\d.,e+-]*\d[\d.,e+-]*%?", "N", word) for word in line.split()]
    return ["U" if word in ("s", "ms", "us", "ns") else word for word in words][:8]


def test_the_first_screen_is_what_the_commands_print(tmp_path):
    (tmp_path / "models").symlink_to(ROOT / "models")
    for file in (ROOT / "examples/tsp").glob("matmul.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    block = re.search(r"^```\n(\$ .*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    commands = 0
    for step in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        line, *shown = step.splitlines()
        command, *arguments = line.split("#")[0].split()
        assert command == "quadrille"
        done = subprocess.run([QUADRILLE, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
        printed = [shape(each) for each in done.stdout.splitlines()]
        for each in shown:
            if each.strip() not in ("", "..."):
                assert shape(each) in printed, (line, each, done.stdout)
        commands += 1
    assert commands >= 3


def test_the_demo_runs_what_the_first_screen_shows():
    demo = (ROOT / "tools/demo").read_text()
    shown = re.findall(r"^\$ (quadrille \w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"^show (quadrille \w+)", demo, re.MULTILINE)) == set(shown)
