"""What the tests of several targets do with the built quadrille."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))


def command(*arguments, code=0):
    """What the command prints: to standard output, or, where it fails as expected, to standard error."""
    done = subprocess.run([QUADRILLE, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def agrees_whatever_the_number_of_threads(model, machine, options, tolerance, folder):
    """The same program, values and cycles with 1 and 2 threads; the program is legal and its profile has the cycles."""
    made = {}
    for threads in (1, 2):
        program, values = folder / f"{threads}.qdl", folder / f"{threads}.npz"
        compiled = json.loads(command("--threads", threads, "compile", model, "--machine", machine, *options, "-o", program,
                                      "--json"))
        ran = json.loads(command("--threads", threads, "run", program, "--random", 1, "--check", "--output", values, "--json"))
        assert ran["relative_l2"] <= tolerance
        assert ran["cycles"] == compiled["cycles"] > 0
        made[threads] = program.read_bytes(), values.read_bytes(), ran["cycles"]
    assert made[1] == made[2]
    assert json.loads(command("profile", program, "--json"))["cycles"] == ran["cycles"]
    assert command("check", program) == f"{program}: legal\n"
