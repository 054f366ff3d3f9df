"""Fills the first screen of README.md with what ./run demo prints; of the profile the totals and where the cycles went."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
NODES = 4  # rows of the profile's table by node


def section(lines, title):
    """The lines from a title to the next empty one; none without it."""
    begin = next((i for i, line in enumerate(lines) if line.strip() == title), len(lines))
    end = next((i for i in range(begin, len(lines)) if not lines[i].strip()), len(lines))
    return lines[begin:end]


def shown(step):
    command, *lines = step.rstrip("\n").split("\n")
    lines = [line for line in lines if not line.startswith("  wall")]
    if command.startswith("quadrille profile"):
        causes, nodes = section(lines, "where the cycles went"), section(lines, "by node")
        head = lines[:next((i for i, line in enumerate(lines) if not line.strip()), len(lines))]
        lines = [*head, "  ...", *causes, "", *nodes[:2 + NODES], "  ..."]
    return "\n".join(["$ " + command.replace(" --expected", " \\\n      --expected"), *lines]) + "\n"


def main():
    printed = subprocess.run([ROOT / "tools/demo"], capture_output=True, text=True, check=True).stdout
    block = "```\n" + "\n".join(shown(step) for step in re.split(r"^\$ ", printed, flags=re.MULTILINE)[1:]) + "```"
    readme = ROOT / "README.md"
    text, count = re.subn(r"^```\n\$ .*?^```$", lambda _: block, readme.read_text(), count=1, flags=re.MULTILINE | re.DOTALL)
    assert count == 1
    readme.write_text(text)


if __name__ == "__main__":
    main()
