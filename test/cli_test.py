"""The command as a user meets it: outputs, JSON, exit codes, messages."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))
MNIST = ROOT / "models/mnist_8"
JSON_KEYS = ["model", "machine", "chips", "replicas", "precision", "batch", "cycles", "interval_cycles", "device_s", "host_s",
             "relative_l2", "max_abs", "wall_s", "peak_rss_bytes"]


def quadrille(*arguments, **options):
    return subprocess.run([QUADRILLE, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def succeed(*arguments, **options):
    done = quadrille(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(code, *arguments, **options):
    done = quadrille(*arguments, **options)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.startswith("quadrille: ") or code == 2
    assert "Traceback" not in done.stderr and "Assertion" not in done.stderr
    return done.stderr


def test_golden_data_through_the_command():
    text = succeed("run", MNIST / "model.onnx", "--machine", "host", "--input",
                   f"Input3={MNIST}/test_data_set_0/input_0.pb", "--expected",
                   f"Plus214_Output_0={MNIST}/test_data_set_0/output_0.pb")
    assert "agrees" in text


def test_json_has_the_promised_keys():
    report = json.loads(succeed("run", MNIST / "model.onnx", "--machine", "host", "--random", 1, "--check", "--json"))
    assert list(report) == JSON_KEYS
    assert list(report["wall_s"]) == ["compile", "estimate", "simulate"]
    assert report["machine"] == "host" and report["precision"] == "f32" and report["batch"] == 1
    assert report["cycles"] is None and report["relative_l2"] <= 1e-5


def test_wrong_expected_values_are_noticed(tmp_path):
    inputs = f"Input3={MNIST}/test_data_set_0/input_0.pb"
    succeed("run", MNIST / "model.onnx", "--machine", "host", "--input", inputs, "--output", tmp_path / "y.npz")
    values = dict(np.load(tmp_path / "y.npz"))
    values["Plus214_Output_0"][0, 3] += 100
    np.savez(tmp_path / "wrong.npz", **values)
    message = fail(1, "run", MNIST / "model.onnx", "--machine", "host", "--input", inputs, "--expected",
                   tmp_path / "wrong.npz")
    assert "Plus214_Output_0" in message and "tolerance 0.0001" in message


@pytest.mark.parametrize("arguments, words", [
    (["run", "missing.onnx", "--machine", "host"], ["missing.onnx", "cannot open"]),
    (["run", MNIST / "model.onnx"], ["--machine"]),
    (["run", MNIST / "model.onnx", "--machine", "nosuch"], ["nosuch", "groqcard"]),
    (["run", MNIST / "model.onnx", "--machine", "host"], ["Input3", "f32[1,1,28,28]", "--random"]),
    (["run", MNIST / "model.onnx", "--machine", "cs2", "--random", "1"], ["cs2", "wse"]),
    (["run", ROOT / "README.md", "--machine", "host"], ["README.md"]),
    (["run", MNIST, "--machine", "host"], ["not a regular file"]),
    (["run", MNIST / "model.onnx", "--machine", "host", "--random", "1", "--shape", "N"], ["--shape", "NAME=VALUE"]),
    (["inspect", MNIST / "test_data_set_0/input_0.pb"], ["input_0.pb"]),
    (["disasm", MNIST / "model.onnx"], ["model.onnx"]),
    (["run", MNIST / "model.onnx", "--machine", "host", "--random=-1"], ["--random", "-1", "from 0 to"]),
    (["run", MNIST / "model.onnx", "--machine", "host", "--random", "18446744073709551616"], ["--random", "from 0 to"]),
    (["mutate", "m.qdl", "--seed=-1"], ["--seed", "from 0 to"]),
    (["run", MNIST / "model.onnx", "--machine", "host", "--random", "1", "-o", ""], ["--output", "name is empty"]),
    (["run", MNIST / "model.onnx", "--machine", "host", "--random", "1", "--trace", ""], ["--trace", "name is empty"]),
    (["compile", MNIST / "model.onnx", "--machine", "host", "-o", ""], ["--output", "name is empty"]),
    (["inspect", ""], ["MODEL", "name is empty"]),
    (["run", MNIST / "model.onnx", "--machine", "unit-tsp", "--random", "1", "--precision", "i9"],
     ["--precision", "i9", "f32", "bf16", "i8"]),
    (["frobnicate"], []),
    (["run", "--no-such-option"], []),
])
def test_user_errors_exit_2(arguments, words):
    message = fail(2, *arguments)
    for word in words:
        assert word in message, message


def test_unknown_operator_is_named_with_its_node(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["h"], name="first"), helper.make_node("Relu", ["h"], ["y"], name="second"),
         helper.make_node("Quux", ["y"], ["z"], name="third")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    message = fail(2, "run", tmp_path / "m.onnx", "--machine", "host", "--random", "1")
    assert "Frobnicate" in message and "first" in message and "Quux" in message and "third" in message
    text = succeed("inspect", tmp_path / "m.onnx")
    assert "Frobnicate" in text and "third" in text


def test_inspect_finds_nothing_unsupported_in_sequences_that_import_resolves(tmp_path):
    nodes = [helper.make_node("SplitToSequence", ["x", "two"], ["s"], axis=0), helper.make_node("SequenceAt", ["s", "one"], ["y"])]
    known = [helper.make_tensor(name, TensorProto.INT64, [], [value]) for name, value in (("two", 2), ("one", 1))]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])], known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    report = json.loads(succeed("inspect", tmp_path / "m.onnx", "--json"))
    assert report["unsupported"] == [] and "flops" in report


def test_absent_weights_inspect_and_compile_but_do_not_run(tmp_path):
    model = ROOT / "models/shape_only/resnet18.onnx"
    report = json.loads(succeed("inspect", model, "--json"))
    assert report["parameters"] == 11684712 and report["absent_weights"] == 32  # models/README.md
    # ResNet-18: 1.82 G multiply-accumulates at 224x224 (He et al. 2016, table 1: 1.8 x 10^9).
    assert 3.6e9 < report["flops"] < 3.75e9
    succeed("compile", model, "--machine", "host", "-o", tmp_path / "m.qdl")
    for run in [model, "--machine", "host"], [tmp_path / "m.qdl"]:
        message = fail(2, "run", *run, "--random", "1")
        assert str(run[0]) in message and "weight" in message and "missing" in message


def test_inspect_counts_operators():
    report = json.loads(succeed("inspect", MNIST / "model.onnx", "--json"))
    assert report["operators"] == {"Add": 3, "Conv": 2, "MatMul": 1, "MaxPool": 2, "Relu": 2, "Reshape": 2}
    assert report["parameters"] == 5998


def test_disk_full_is_one_message_and_leaves_nothing(tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # a write beyond 100 bytes fails like a full disk
    message = fail(2, "run", MNIST / "model.onnx", "--machine", "host", "--random", 1, "--output", tmp_path / "y.npz",
                   preexec_fn=limit)
    assert "y.npz" in message
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output_is_a_user_error(tmp_path):
    message = fail(2, "run", MNIST / "model.onnx", "--machine", "host", "--random", 1, "--output", tmp_path / "no/such/y.npz")
    assert "y.npz" in message


def test_results_do_not_depend_on_threads(tmp_path):
    model = ROOT / "models/super_resolution_10/model.onnx"
    for threads in (1, 2):
        succeed("--threads", threads, "run", model, "--machine", "host", "--batch", 1, "--random", 7, "--output",
                tmp_path / f"{threads}.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_interrupt_leaves_no_file(tmp_path):
    model = ROOT / "models/super_resolution_10/model.onnx"
    process = subprocess.Popen([QUADRILLE, "run", model, "--machine", "host", "--batch", "64", "--random", "1", "--repeat",
                                "1000", "--output", tmp_path / "y.npz"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert list(tmp_path.iterdir()) == []


def test_machines_lists_and_shows():
    text = succeed("machines")
    for name in ["groqcard", "bow-pod64", "sn30", "cs2", "unit-tsp"]:
        assert name in text
    shown = succeed("machines", "groqcard")
    assert "900" in shown and "ISCA" in shown
    assert json.loads(succeed("machines", "groqcard", "--json"))["name"] == "groqcard"
    assert isinstance(json.loads(succeed("machines", "--json")), list)


def test_devices_are_written_not_replaced(tmp_path):
    # A file renamed onto /dev/null would replace it for everybody; a link of ours takes that risk here.
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "full").symlink_to("/dev/full")
    run = ["run", MNIST / "model.onnx", "--machine", "host", "--random", 1, "--output"]
    succeed(*run, tmp_path / "null")
    assert "full" in fail(2, *run, tmp_path / "full")
    assert (tmp_path / "null").is_symlink() and pathlib.Path("/dev/null").is_char_device()


def test_damaged_archive_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", Input3=np.ones((1, 1, 28, 28), np.float32))
    run = ["run", MNIST / "model.onnx", "--machine", "host", "--input", tmp_path / "x.npz"]
    succeed(*run)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[1000] ^= 1  # among the values: only the checksum shows it
    (tmp_path / "x.npz").write_bytes(data)
    assert "damaged" in fail(2, *run)


def test_nameless_array_is_the_only_input(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 1, 28, 28), np.float32))
    assert "agrees" in succeed("run", MNIST / "model.onnx", "--machine", "host", "--input", tmp_path / "x.npy", "--check")


def test_nothing_to_compare_is_no_agreement(tmp_path):
    np.savez(tmp_path / "none.npz")
    run = ["run", MNIST / "model.onnx", "--machine", "host", "--random", 1]
    assert "none.npz" in fail(2, *run, "--expected", tmp_path / "none.npz")
    assert "--check" in fail(2, *run, "--tolerance", 1)
    for tolerance in ["nan", "-1", "inf"]:
        assert "--tolerance" in fail(2, *run, "--check", f"--tolerance={tolerance}")


def test_outputs_never_overwrite_inputs_or_each_other(tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes((MNIST / "model.onnx").read_bytes())
    np.save(tmp_path / "x.npy", np.ones((1, 1, 28, 28), np.float32))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    fail(2, "compile", model, "--machine", "host", "--output", model)
    run = ["run", model, "--machine", "host", "--input", f"Input3={tmp_path}/x.npy", "--output"]
    fail(2, *run, tmp_path / "x.npy")
    fail(2, *run, tmp_path / "y", "--trace", tmp_path / "y")
    fail(2, *run, "-")
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_program_moves_with_its_model(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/m.onnx").write_bytes((MNIST / "model.onnx").read_bytes())
    succeed("compile", "a/m.onnx", "--machine", "host", "--output", "a/m.qdl", cwd=tmp_path)
    assert "agrees" in succeed("run", "m.qdl", "--random", 1, "--check", cwd=tmp_path / "a")
    assert "agrees" in succeed("run", tmp_path / "a/m.qdl", "--random", 1, "--check", cwd="/")
    (tmp_path / "a").rename(tmp_path / "b")
    assert "agrees" in succeed("run", "b/m.qdl", "--random", 1, "--check", cwd=tmp_path)
    assert "compiled program already" in fail(2, "compile", "b/m.qdl", "--output", "c.qdl", cwd=tmp_path)


def test_compile_says_what_it_made(tmp_path):
    model = tmp_path / "sum.onnx"
    model.write_bytes((ROOT / "examples/tsp/vector_add.onnx").read_bytes())
    (tmp_path / "here").mkdir()
    lines = succeed("compile", "../sum.onnx", "--machine", "unit-tsp", cwd=tmp_path / "here").splitlines()
    assert lines[0] == "../sum.onnx for unit-tsp, f16, batch 8, 1 chip"
    assert [line.split()[0] for line in lines[1:]] == ["program", "device", "memory", "instructions", "wall"]
    program = tmp_path / "here/sum.qdl"
    report = json.loads(succeed("compile", model, "--machine", "unit-tsp", "--output", tmp_path / "m.qdl", "--json"))
    assert list(report) == ["model", "machine", "program", "program_bytes", "chips", "replicas", "precision", "batch", "cycles",
                            "interval_cycles", "device_s", "memory_bytes", "memory_peak_bytes", "instructions", "share_of_peak", "wall_s", "peak_rss_bytes"]
    assert report["program_bytes"] == (tmp_path / "m.qdl").stat().st_size and report["chips"] == 1
    assert f"{report['cycles']} cycles" in lines[2] and lines[4].split()[1] == str(report["instructions"])
    assert f"{report['cycles']} cycles" in succeed("profile", program)
    done = subprocess.run([QUADRILLE, "compile", model, "--machine", "unit-tsp", "-o", "-"], capture_output=True)
    assert done.returncode == 0 and done.stdout[:4] == program.read_bytes()[:4]
    host = json.loads(succeed("compile", model, "--machine", "host", "--output", tmp_path / "h.qdl", "--json"))
    assert host["cycles"] is None and host["memory_bytes"] is None


@pytest.mark.parametrize("code, options, words", [
    (2, [], ["--machine NAME", "quadrille machines"]),
    (2, ["--machine", "unit-tsp", "--output", "no/such/m.qdl"], ["no/such/m.qdl"]),
    (2, ["--machine", "unit-tsp", "--output", "."], ["not a regular file"]),
    (2, ["--machine", "unit-tsp", "--output", "-", "--json"], ["standard output", "give a file"]),
    (2, ["--machine", "unit-tsp", "--batch", "4"], ["Input3", "leave out --batch"]),
    (1, ["--machine", "unit-tsp", "--precision", "bf16"], ["precision", "leave out --precision"]),
    (1, ["--machine", "unit-tsp", "--chips", "2"], ["2 chips", "--chips may be 1"]),
    (1, ["--machine", "host", "--chips", "2"], ["one machine", "leave out --chips"]),
])
def test_compile_names_the_remedy(code, options, words, tmp_path):
    model = MNIST / "model.onnx" if "--batch" in options else ROOT / "examples/tsp/vector_add.onnx"
    message = fail(code, "compile", model, *options, cwd=tmp_path)
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == []


def reshape_to_bound_shape(path):
    """x[2,6] reshaped to the shape that a second input says."""
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6]),
                               helper.make_tensor_value_info("shape", TensorProto.INT64, [2])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_bound_files_move_with_the_program(tmp_path):
    for folder in ["a", "elsewhere"]:
        (tmp_path / folder).mkdir()
    reshape_to_bound_shape(tmp_path / "a/m.onnx")
    np.save(tmp_path / "a/3", np.array([3, 4]))
    (tmp_path / "a/3.npy").rename(tmp_path / "a/3")  # a name that reads as a number
    np.save(tmp_path / "elsewhere/shape.npy", np.array([3, 4]))
    for name, given in [("beside", "a/3"), ("outside", "elsewhere/shape.npy")]:
        succeed("compile", "a/m.onnx", "--machine", "host", "--bind", f"shape={given}", "-o", f"a/{name}.qdl", cwd=tmp_path)
        for here in [tmp_path / "a", tmp_path / "elsewhere", "/"]:
            assert "agrees" in succeed("run", tmp_path / f"a/{name}.qdl", "--random", 1, "--check", cwd=here)
    (tmp_path / "a").rename(tmp_path / "b")
    assert "agrees" in succeed("run", "b/beside.qdl", "--random", 1, "--check", cwd=tmp_path)
    (tmp_path / "b/3").unlink()
    assert "--bind shape" in fail(2, "run", "b/beside.qdl", "--random", 1, "--check", cwd=tmp_path)


def test_unreadable_arrays_say_why(tmp_path):
    run = ["run", MNIST / "model.onnx", "--machine", "host", "--input"]
    np.save(tmp_path / "big.npy", np.ones((1, 1, 28, 28), ">f4"))
    np.savez(tmp_path / "big.npz", Input3=np.ones((1, 1, 28, 28), ">f4"))
    assert "big.npy: " in fail(2, *run, tmp_path / "big.npy")
    message = fail(2, *run, tmp_path / "big.npz")
    assert "big.npz: Input3" in message and "big-endian" in message and "x.astype(x.dtype.newbyteorder('<'))" in message
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    assert "Python objects" in fail(2, *run, tmp_path / "objects.npy")


def test_program_text_from_devices_and_pipes(tmp_path):
    assert "not a regular file" in fail(2, "asm", "/dev/zero", "--output", tmp_path / "z.qdl")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in fail(2, "asm", tmp_path / "pipe", "--output", tmp_path / "z.qdl")
    text = (ROOT / "examples/tsp/matmul.tspasm").read_text()
    succeed("asm", "-", "--output", tmp_path / "z.qdl", input=text)
    succeed("asm", ROOT / "examples/tsp/matmul.tspasm", "--output", tmp_path / "file.qdl")
    assert (tmp_path / "z.qdl").read_bytes() == (tmp_path / "file.qdl").read_bytes()
    assert "'i9'" in fail(2, "asm", "-", "--output", tmp_path / "p.qdl", input=text.replace('.precision "i8"', '.precision "i9"'))


def test_profile_refuses_inputs_that_do_not_fit(tmp_path):
    text = (ROOT / "examples/tsp/matmul.tspasm").read_text().splitlines()
    nameless = "\n".join(line for line in text if not line.startswith(".model"))  # as written by hand
    succeed("asm", "-", "--output", tmp_path / "m.qdl", input=nameless)
    assert "m.qdl on unit-tsp" in succeed("profile", tmp_path / "m.qdl")
    np.savez(tmp_path / "x.npz", A=np.zeros((3, 3), np.int8))
    assert "i8[53,128]" in fail(2, "profile", tmp_path / "m.qdl", "--input", tmp_path / "x.npz")


@pytest.mark.parametrize("count", ["0", "-1", "99999999999999999999"])
def test_counts_out_of_range_are_refused(count):
    message = fail(2, "run", MNIST / "model.onnx", "--machine", "host", "--random", 1, f"--batch={count}")
    assert "--batch" in message and len(message) < 200


def test_no_mutation_of_a_host_program_is_silent(tmp_path):
    # Mutations 8 and 10 move the image or channel index of a padded convolution outside its operand.
    succeed("compile", MNIST / "model.onnx", "--machine", "host", "-o", tmp_path / "m.qdl")
    report = json.loads(succeed("mutate", tmp_path / "m.qdl", "--count", 60, "--json"))
    assert report["silent"] == 0
