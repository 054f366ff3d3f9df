"""The hand-written programs for the tensor streaming processor, through the command."""

import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))


def succeed(*arguments, cwd=None):
    done = subprocess.run([QUADRILLE, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def program(tmp_path):
    for file in (ROOT / "examples/tsp").glob("matmul*"):
        shutil.copy(file, tmp_path)
    succeed("asm", "matmul.tspasm", "-o", "matmul.qdl", cwd=tmp_path)
    return tmp_path / "matmul.qdl"


def test_product_equals_numpy_in_the_predicted_cycles(program, tmp_path):
    generator = np.random.default_rng(1)
    a = generator.integers(-128, 128, (53, 128), dtype=np.int8)
    b = generator.integers(-128, 128, (128, 64), dtype=np.int8)
    np.savez(tmp_path / "ab.npz", A=a, B=b)
    report = json.loads(succeed("run", program, "--input", tmp_path / "ab.npz", "--output", tmp_path / "c.npz", "--check",
                                "--json"))
    assert report["cycles"] == 429  # derived instruction by instruction in the comment of matmul.tspasm
    assert report["relative_l2"] == 0
    assert np.array_equal(np.load(tmp_path / "c.npz")["C"], a.astype(np.int32) @ b.astype(np.int32))


def test_text_and_program_are_the_same_thing(program, tmp_path):
    (tmp_path / "text.tspasm").write_text(succeed("disasm", program))
    succeed("asm", tmp_path / "text.tspasm", "-o", tmp_path / "again.qdl")
    assert (tmp_path / "again.qdl").read_bytes() == program.read_bytes()


def test_no_mutation_is_silent(program):
    report = json.loads(succeed("mutate", program, "--count", 200, "--json"))
    assert report["silent"] == 0
    assert report["check"] + report["hazard"] + report["wrong_value"] + report["benign"] == 200


def test_profile_needs_no_inputs_and_gives_the_same_cycles(program, tmp_path):
    text = succeed("profile", program, "--trace", tmp_path / "t.pftrace", "--csv", tmp_path / "t.csv")
    assert "429 cycles" in text
    assert (tmp_path / "t.pftrace").stat().st_size > 0
    assert max(int(line.split(",")[-1]) for line in (tmp_path / "t.csv").read_text().splitlines()[1:]) <= 429


def test_one_cause_does_not_flood_the_message(program, tmp_path):
    text = (tmp_path / "matmul.tspasm").read_text()
    wrong = text.replace("stream=e20", "stream=e21", 1)  # the activations' read
    assert wrong != text
    (tmp_path / "wrong.tspasm").write_text(wrong)
    succeed("asm", tmp_path / "wrong.tspasm", "-o", tmp_path / "wrong.qdl")
    done = subprocess.run([QUADRILLE, "run", tmp_path / "wrong.qdl", "--random", "1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "stream e20 is not driven where it is read" in done.stderr
    assert len(done.stderr.splitlines()) == 12 and " more" in done.stderr.splitlines()[-1]
