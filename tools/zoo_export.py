"""Exports one model of the zoo: zoo_export.py NAME FILE. The graph that the exporter writes is not touched afterwards."""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
import torch
from torch import nn

import zoo
import zoo_architectures as architectures

SEED = 20
CALIBRATION_IMAGES = 80
OPSET = 18


class Outputs(nn.Module):
    """A transformers model with tensors for arguments and results."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        arguments = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        made = self.model(input_ids=input_ids, **{k: v for k, v in arguments.items() if v is not None})
        return tuple(getattr(made, name) for name in self.names)


def bert(layers, width, heads, inner):
    import transformers
    config = transformers.BertConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
                                     intermediate_size=inner)
    return Outputs(transformers.BertModel(config), ["last_hidden_state", "pooler_output"])


def distilbert():
    import transformers
    return Outputs(transformers.DistilBertModel(transformers.DistilBertConfig()), ["last_hidden_state"])


def gpt2(**dimensions):
    import transformers
    return Outputs(transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False, **dimensions)), ["logits"])


class DeitTiny(nn.Module):
    def __init__(self):
        super().__init__()
        import transformers
        config = transformers.ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=1000)
        self.model = transformers.ViTForImageClassification(config)

    def forward(self, image):
        return self.model(pixel_values=image).logits


MAKERS = {
    "mnist_cnn": architectures.MnistCnn,
    "lenet": architectures.LeNet,
    "resnet18": lambda: architectures.ResNet([2, 2, 2, 2], bottleneck=False),
    "resnet50": lambda: architectures.ResNet([3, 4, 6, 3], bottleneck=True),
    "mobilenet_v2": architectures.MobileNetV2,
    "bert_tiny": lambda: bert(2, 128, 2, 512),
    "bert_base": lambda: bert(12, 768, 12, 3072),
    "bert_large": lambda: bert(24, 1024, 16, 4096),
    "minilm_l6": lambda: bert(6, 384, 12, 1536),
    "distilbert": distilbert,
    "gpt2": gpt2,
    "gpt2_2048": lambda: gpt2(n_positions=2048),
    "deit_tiny": DeitTiny,
    "unet256": architectures.UNet,
    "uno": architectures.Uno,
    "braggnn": architectures.BraggNN,
    "nucleotide_transformer": architectures.NucleotideTransformer,
    "lstm_seq": architectures.LstmSequence,
    "vae": architectures.Vae,
    **{f"tiny_resnet_{e}": lambda: architectures.ResNet([1, 1], bottleneck=False, base=8, classes=20)
       for e in ("dynamo", "torchscript")},
    **{f"tiny_transformer_{e}": lambda: architectures.NucleotideTransformer(2, 24, 4, 48, 69)
       for e in ("dynamo", "torchscript")},
    "gpt2_xl_shape": lambda: gpt2(n_layer=48, n_embd=1600, n_head=25),
    **{name: lambda: architectures.Llama(32, 4096, 32, 32, 11008, 32000, 1e4)
       for name in ("llama2_7b_shape", "llama2_7b_prompt_shape")},
    "llama3_8b_decode_shape": lambda: architectures.LlamaDecodeStep(32, 4096, 32, 8, 14336, 128256, 5e5),
}


def calibrate(model, channels, size):
    """Batch norms take the statistics of generated images, as training would leave them."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over batches
    if norms:
        model.train()
        drawn, _ = zoo.images(CALIBRATION_IMAGES, SEED, channels, size)
        with torch.no_grad():
            for batch in torch.from_numpy(drawn).split(20):
                model(batch)


def fit_last_layer(model, channels, size):
    """Ridge regression of the last layer on the generated classes; the outputs of other classes stay below."""
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    features = []
    hook = last.register_forward_pre_hook(lambda _, arguments: features.append(arguments[0].detach()))
    drawn, labels = zoo.images(CALIBRATION_IMAGES, SEED, channels, size)
    with torch.no_grad():
        for batch in torch.from_numpy(drawn).split(20):
            model(batch)
    hook.remove()
    x = torch.cat(features).double()
    centre = x.mean(0)
    x = x - centre
    # Labels beyond the number of outputs wrap: a model of 10 classes takes two of the generated ones for each.
    labels = torch.from_numpy(labels % last.out_features)
    wanted = 10 * nn.functional.one_hot(labels, last.out_features).double() - 1
    gram = x @ x.T
    solved = torch.linalg.solve(gram + 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype),
                                wanted - wanted.mean(0))
    weight = solved.T @ x
    with torch.no_grad():
        last.weight.copy_(weight + 1e-3 * torch.randn(weight.shape, dtype=weight.dtype) * weight.std())
        last.bias.copy_(wanted.mean(0) - weight @ centre)


def check_parameters(model, entry):
    count = sum(parameter.numel() for parameter in model.parameters())  # a shared tensor counts once
    if entry.parameters is not None and count != entry.parameters:
        raise SystemExit(f"the model has {count:,} parameters, published are {entry.parameters:,}")


def export_torch(name, file):
    entry = zoo.EVERY[name]
    torch.manual_seed(SEED)
    model = MAKERS[name]()
    check_parameters(model, entry)
    sample = entry.inputs(2, SEED)
    first = next(iter(sample.values()))
    if first.ndim == 4:
        calibrate(model, *first.shape[1:3])
    model.eval()
    if entry.classes:
        fit_last_layer(model, *first.shape[1:3])
    arguments = tuple(torch.from_numpy(value) for value in sample.values())
    with torch.no_grad():
        results = model(*arguments)
    count = len(results) if isinstance(results, (tuple, list)) else 1
    outputs = [f"output_{i}" for i in range(count)] if count > 1 else ["output"]
    common = {"input_names": list(sample), "output_names": outputs, "opset_version": OPSET}
    if entry.exporter == "dynamo":
        batch = torch.export.Dim("batch", min=1, max=4096)
        torch.onnx.export(model, arguments, file, dynamo=True, dynamic_shapes=tuple({0: batch} for _ in arguments),
                          external_data=False, **common)
    else:
        axes = {key: {0: "batch"} for key in [*sample, *outputs]}
        torch.onnx.export(model, arguments, file, dynamo=False, dynamic_axes=axes, **common)


def shape_arguments(name):
    """Arguments of the shape-only models: their values are never looked at."""
    if name == "llama3_8b_decode_shape":
        caches = [[torch.zeros(2, 8, 2047, 128) for _ in range(32)] for _ in range(2)]
        return torch.zeros(2, 1, dtype=torch.int64), *caches
    tokens = {"gpt2_xl_shape": 1024, "llama2_7b_shape": 4096, "llama2_7b_prompt_shape": 16}[name]
    return (torch.zeros(2, tokens, dtype=torch.int64),)


def export_shape(name, file):
    """Weights are never allocated: the file declares them as external data that is not there."""
    import onnx_ir
    from torch._subclasses.fake_tensor import FakeTensorMode
    with FakeTensorMode():
        model = MAKERS[name]().eval()
        check_parameters(model, zoo.EVERY[name])
        batch = torch.export.Dim("batch", min=1, max=4096)
        arguments = shape_arguments(name)
        shapes = tuple({0: batch} if torch.is_tensor(a) else [{0: batch} for _ in a] for a in arguments)
        program = torch.onnx.export(model, arguments, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, optimize=False)
    offset = 0
    for value in program.model.graph.initializers.values():
        held = value.const_value
        if isinstance(getattr(held, "raw", None), torch._subclasses.fake_tensor.FakeTensor):
            value.const_value = onnx_ir.ExternalTensor("absent.bin", offset, held.nbytes, held.dtype, shape=held.shape,
                                                       name=value.name)
            offset += held.nbytes
    onnx_ir.save(program.model, file)


def export_quantised(name, file):
    from onnxruntime import quantization
    float_name = {"resnet50_int8": "resnet50"}.get(name, name.replace("_int8", "_dynamo"))
    source = zoo.MODELS_DIRECTORY / f"{float_name}.onnx"
    write(float_name, source)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            drawn = zoo.EVERY[name].inputs(40, SEED)
            self.samples = iter([{key: value[i:i + 1] for key, value in drawn.items()} for i in range(40)])

        def get_next(self):
            return next(self.samples, None)

    quantization.quantize_static(str(source), file, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                                 activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)


def export_keras(name, file):
    import keras
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    if name == "keras_cnn":
        x = given = keras.Input((32, 32, 3), name="image")
        for width in (16, 32):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.MaxPooling2D()(x)
        x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
        x = layers.Dense(10, activation="softmax")(x)
    else:
        x = given = keras.Input((32, 32, 3), name="image")
        x = layers.Conv2D(16, 3, 2, padding="same")(x)
        for _ in range(2):
            h = layers.SeparableConv2D(16, 3, padding="same", activation="relu6")(x)
            x = layers.Add()([x, layers.BatchNormalization()(h)])
        x = layers.Conv2DTranspose(8, 2, 2)(layers.AveragePooling2D(2)(x))
        x = layers.Dense(10)(layers.GlobalAveragePooling2D()(layers.LeakyReLU(0.1)(x)))
    model = keras.Model(given, x)
    model(next(iter(zoo.EVERY[name].inputs(2, SEED).values())))  # Keras exports what was called
    model.export(file, format="onnx", verbose=False)


def drop_stack_traces(file):
    """The files that are kept do not carry the exporter's notes on each node, which name folders of this machine."""
    import onnx
    model = onnx.load(file)
    for described in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output,
                      *model.graph.initializer, model.graph, model]:
        described.ClearField("metadata_props")
        if described is not model:
            described.ClearField("doc_string")
    onnx.save(model, file)


def write(name, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as directory:
        made = str(pathlib.Path(directory) / file.name)
        exporter = zoo.EVERY[name].exporter
        if exporter == "quantised":
            export_quantised(name, made)
        elif exporter == "keras":
            export_keras(name, made)
        elif zoo.EVERY[name].inputs is None:
            export_shape(name, made)
        else:
            export_torch(name, made)
        if name in zoo.TINY:
            drop_stack_traces(made)
        os.replace(made, file)


def main():
    torch.set_num_threads(2)
    write(sys.argv[1], pathlib.Path(sys.argv[2]))


if __name__ == "__main__":
    main()
