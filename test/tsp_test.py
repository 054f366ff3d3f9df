"""The hand-written programs for the tensor streaming processor, through the command."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))

# Cycles, as the comment of each program derives them.
EXAMPLES = {
    "copy": 33,
    "vector_add": 76,
    "activation": 50,
    "matmul": 429,
    "requantise": 46,
    "transpose": 59,
    "reduction": 568,
    "softmax": 118,
    "gather": 44,
    "two_chips": 385,
    "fetch": 155,
}


def command(*arguments, cwd=None):
    return subprocess.run([QUADRILLE, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=cwd)


def succeed(*arguments, cwd=None):
    done = command(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def examples(tmp_path):
    for file in (ROOT / "examples/tsp").iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
def program(examples):
    succeed("asm", "matmul.tspasm", "-o", "matmul.qdl", cwd=examples)
    return examples / "matmul.qdl"


def head_comment(path):
    lines = path.read_text().splitlines()
    return [line[2:] for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("."))]]


def test_every_example_is_tested():
    assert {path.stem for path in (ROOT / "examples/tsp").glob("*.tspasm")} == {*EXAMPLES, "matmul_f16", "broken"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_agrees_with_its_model_in_the_derived_cycles(name, examples):
    comment = head_comment(examples / f"{name}.tspasm")
    assert re.search(r"(\d+) cycles\.$", next(line for line in comment if line.startswith("Total: ")))[1] == str(EXAMPLES[name])
    succeed("asm", f"{name}.tspasm", "-o", f"{name}.qdl", cwd=examples)
    text = succeed("run", f"{name}.qdl", "--random", 1, "--check", cwd=examples)
    assert f"device     {EXAMPLES[name]} cycles" in text
    assert "reference  agrees" in text
    report = json.loads(succeed("run", f"{name}.qdl", "--random", 2, "--check", "--json", cwd=examples))
    assert report["cycles"] == EXAMPLES[name]
    # Softmax has no division; everything else is the model's own arithmetic.
    assert report["relative_l2"] <= (1e-6 if name == "softmax" else 0)


def test_the_command_in_an_example_is_what_works(examples):
    for name in [*EXAMPLES, "broken"]:
        if name == "matmul":  # with an input file
            continue
        line = next(line.strip() for line in head_comment(examples / f"{name}.tspasm") if "quadrille asm" in line)
        assert line.startswith(f"quadrille asm {name}.tspasm -o {name}.qdl && quadrille run {name}.qdl --random 1")


def test_the_readme_shows_what_the_commands_print(examples):
    text = (ROOT / "src/target/tsp/README.md").read_text()
    cycles = {}
    for names, numbers in re.findall(r"^\| (`[a-z0-9_`, ]+`) \| ([0-9, ]+) \| ", text, re.MULTILINE):
        cycles |= zip(re.findall(r"\w+", names), map(int, numbers.split(", ")))
    assert cycles == EXAMPLES | {"matmul_f16": 396}
    for name in [*EXAMPLES, "broken"]:
        succeed("asm", f"{name}.tspasm", "-o", f"{name}.qdl", cwd=examples)
    commands = 0
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        printed = None
        for line in block.splitlines():
            if line.startswith("$ quadrille "):
                done = command(*line.split("#")[0].split()[2:], cwd=examples)
                printed = (done.stdout + done.stderr).splitlines()
                commands += 1
            elif printed is not None and line:
                assert line in printed, (line, printed)
    assert commands == 6


def test_models_are_what_the_script_makes(tmp_path):
    subprocess.run([sys.executable, ROOT / "tools/tsp_example_models.py", tmp_path], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (ROOT / "examples/tsp").glob("*.onnx")}


def test_the_broken_example_says_what_its_comment_quotes(examples):
    succeed("asm", "broken.tspasm", "-o", "broken.qdl", cwd=examples)
    done = command("run", "broken.qdl", "--random", 1, cwd=examples)
    assert done.returncode == 1
    comment = head_comment(examples / "broken.tspasm")
    start = next(i for i, line in enumerate(comment) if "quadrille: broken.qdl" in line)
    assert done.stderr.splitlines() == [line[2:] for line in comment[start : start + len(done.stderr.splitlines())]]


def test_the_broken_example_can_be_mended_as_its_comment_says(examples):
    text = (examples / "broken.tspasm").read_text()
    mended, count = re.subn(r"(\.queue MEM west [45]\n\.origin 0\n)  \.at 1\n", r"\1", text)
    assert count == 2
    (examples / "mended.tspasm").write_text(mended)
    succeed("asm", "mended.tspasm", "-o", "mended.qdl", cwd=examples)
    generator = np.random.default_rng(1)
    a, b = (generator.integers(-64, 64, (8, 320)).astype(np.float16) for _ in range(2))
    np.savez(examples / "ab.npz", A=a, B=b)
    report = json.loads(succeed("run", "mended.qdl", "--input", "ab.npz", "--output", "c.npz", "--json", cwd=examples))
    assert report["cycles"] == 41
    assert np.array_equal(np.load(examples / "c.npz")["C"], a + b)


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


def test_check_prints_the_findings(program, tmp_path):
    assert succeed("check", program) == f"{program}: legal\n"
    text = (tmp_path / "matmul.tspasm").read_text()
    wrong = text.replace("stream=e20", "stream=e21", 1)  # the activations' read
    assert wrong != text
    (tmp_path / "wrong.tspasm").write_text(wrong)
    succeed("asm", tmp_path / "wrong.tspasm", "-o", tmp_path / "wrong.qdl")
    done = command("check", tmp_path / "wrong.qdl")
    assert done.returncode == 1
    findings = done.stdout.splitlines()
    assert len(findings) > 10  # as many as `run` shows
    assert all("stream e20 is not driven where it is read" in line for line in findings)
    assert done.stderr == f"quadrille: {tmp_path}/wrong.qdl: the program is not legal, findings: {len(findings)}\n"
    for file in [tmp_path / "missing.qdl", tmp_path / "wrong.tspasm"]:
        done = command("check", file)
        assert done.returncode == 2 and file.name in done.stderr and done.stdout == ""


def test_entry_points_are_chosen_by_name(examples):
    # The copy as "late" too, which begins 100 cycles later.
    text = (examples / "copy.tspasm").read_text()
    entry = next(line for line in text.splitlines() if line.startswith(".entry"))
    head, code = text.split('.code "inference"')
    late = code.replace(".queue MEM west 0\n", ".queue MEM west 0\n.at 100\n").replace(".at 3\n", ".at 103\n")
    (examples / "two.tspasm").write_text(
        head.replace(entry, entry.replace("inference", "late") + "\n" + entry) + f'.code "late"{late}.code "inference"{code}')
    succeed("asm", "two.tspasm", "-o", "two.qdl", cwd=examples)
    for arguments, cycles in [([], 33), (["--entry", "inference"], 33), (["--entry", "late"], 133)]:
        assert f" {cycles} cycles" in succeed("profile", "two.qdl", *arguments, cwd=examples)
        report = json.loads(succeed("run", "two.qdl", "--random", 1, "--json", "--check", *arguments, cwd=examples))
        assert report["cycles"] == cycles and report["relative_l2"] == 0
        report = json.loads(succeed("mutate", "two.qdl", "--count", 3, "--json", *arguments, cwd=examples))
        assert report["cycles"] == cycles
    for name in ["run", "profile", "mutate"]:
        done = command(name, "two.qdl", *(["--random", "1"] if name == "run" else []), "--entry", "lat", cwd=examples)
        assert done.returncode == 2
        assert done.stderr == ("quadrille: two.qdl: --entry: the program has no entry point 'lat'; choose one of: 'late', "
                               "'inference'\n")
    # Without "inference" the first is taken.
    (examples / "other.tspasm").write_text((examples / "copy.tspasm").read_text().replace('"inference"', '"forward"'))
    succeed("asm", "other.tspasm", "-o", "other.qdl", cwd=examples)
    assert "33 cycles" in succeed("run", "other.qdl", "--random", 1, "--check", cwd=examples)


def test_mutate_takes_inputs_that_steer(examples):
    text = (examples / "gather.tspasm").read_text()
    (examples / "few.tspasm").write_text(text.replace("rows=256", "rows=200"))  # random codes go up to 255
    succeed("asm", "few.tspasm", "-o", "few.qdl", cwd=examples)
    done = command("mutate", "few.qdl", "--count", 20, cwd=examples)
    assert done.returncode == 2 and "of 200" in done.stderr
    np.savez(examples / "code.npz", code=np.arange(320, dtype=np.uint8).reshape(16, 20) % 200)
    report = json.loads(succeed("mutate", "few.qdl", "--count", 20, "--json", "--input", "code.npz", cwd=examples))
    assert report["silent"] == 0 and len(report["mutations"]) == 20
    np.savez(examples / "code.npz", code=np.zeros((16, 21), np.uint8))
    done = command("mutate", "few.qdl", "--count", 20, "--input", "code.npz", cwd=examples)
    assert done.returncode == 2 and "u8[16,20]" in done.stderr


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
