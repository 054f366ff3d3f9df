"""The small real models in models/, on the reference: against their golden data, and beside ONNX Runtime.

Usage: models.py [NAME...]   (default: all; NAME is a folder of models/)

Columns: relative L2 error against the golden outputs that came with the model and against ONNX Runtime on the same random
inputs; median time of both, on the same cores, in one run; their ratio.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", ROOT / "build/bin/quadrille")
REPEATS = 15

# name: (file, arguments that fix what the file leaves open, tolerance against golden data)
MODELS = {
    "mnist_8": ("model.onnx", [], 1e-5),
    "mnist_quantized": ("model_quantized.onnx", [], None),  # its golden output is the float model's
    "mnist_pytorch": ("pytorch.onnx", [], None),
    "super_resolution_10": ("model.onnx", ["--batch", "1"], 1e-5),
    "squeezenet_fp16": ("SqueezeNet_fp16.onnx", [], None),
    "ultraface": ("version-RFB-320_without_postprocessing.onnx", [], None),
    "silero_vad": ("silero_vad_16k_op15.onnx", ["--bind", "sr=16000"], None),
}
# Inputs for the open dimensions of silero-vad: one window of 512 samples at 16 kHz.
EXAMPLE_SHAPES = {"silero_vad": {"input": (1, 512), "state": (2, 1, 128)}, "super_resolution_10": {"input": (1, 1, 224, 224)}}
BOUND = {"silero_vad": {"sr": np.array(16000, dtype=np.int64)}}


def quadrille(*arguments):
    done = subprocess.run([QUADRILLE, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"quadrille {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done


def relative_l2(got, wanted):
    got, wanted = got.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    return float(np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-30))


def read_pb(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def run(name, model, extra, inputs, folder, repeat=1):
    np.savez(folder / "in.npz", **inputs)
    done = quadrille("run", model, "--machine", "host", *extra, "--input", folder / "in.npz", "--output",
                     folder / "out.npz", "--json", "--repeat", repeat)
    return dict(np.load(folder / "out.npz")), json.loads(done.stdout)


def golden_error(name, model, extra, folder):
    errors = []
    for data in sorted(model.parent.glob("test_data_set_*")):
        proto = onnx.load(model)
        initializers = {tensor.name for tensor in proto.graph.initializer}
        names = [value.name for value in proto.graph.input if value.name not in initializers]
        inputs = {n: read_pb(data / f"input_{i}.pb") for i, n in enumerate(names)}
        outputs, _ = run(name, model, extra, inputs, folder)
        for i, value in enumerate(proto.graph.output):
            errors.append(relative_l2(outputs[value.name], read_pb(data / f"output_{i}.pb")))
    return max(errors) if errors else None


def measure(name, repeats):
    """(golden error or None, its tolerance or None, error against ONNX Runtime, its tolerance, host ms, ORT ms)"""
    file, extra, tolerance = MODELS[name]
    model = ROOT / "models" / name / file
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        golden = golden_error(name, model, extra, folder)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        generator = np.random.default_rng(1)
        bound = BOUND.get(name, {})
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        inputs = {}
        for port in session.get_inputs():
            if port.name not in bound:
                shape = EXAMPLE_SHAPES.get(name, {}).get(port.name, port.shape)
                inputs[port.name] = generator.standard_normal(shape).astype(types[port.type])
        outputs, report = run(name, model, extra, inputs, folder, repeats)
        feed = {**inputs, **bound}
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            reference = session.run(None, feed)
            times.append(time.perf_counter() - begin)
        error = max(relative_l2(outputs[port.name], value) for port, value in zip(session.get_outputs(), reference))
    limit = 1e-2 if report["precision"] in ("f16", "i8", "u8") else 1e-4
    return golden, tolerance, error, limit, report["wall_s"]["simulate"] * 1e3, statistics.median(times) * 1e3


def main():
    names = sys.argv[1:] or list(MODELS)
    failed = 0
    print(f"{'model':22} {'golden L2':>10} {'ORT L2':>10} {'host ms':>9} {'ORT ms':>9} {'ratio':>6}")
    for name in names:
        if name not in MODELS:
            raise SystemExit(f"unknown model '{name}'; known: {', '.join(MODELS)}")
        golden, tolerance, error, limit, host_ms, ort_ms = measure(name, REPEATS)
        bad = (tolerance is not None and not golden <= tolerance) or not error <= limit
        failed += bad
        shown = "-" if golden is None else f"{golden:.2e}"
        print(f"{name:22} {shown:>10} {error:10.2e} {host_ms:9.2f} {ort_ms:9.2f} {host_ms / ort_ms:6.2f}"
              f"{'  DISAGREES' if bad else ''}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
