"""The models that Quadrille is measured with: what each is, its realistic inputs, its published parameter count.

No framework is imported here: tools/zoo_export.py makes the ONNX files (build/models/NAME.onnx) with PyTorch or Keras,
from fixed seeds, and tools/models.py checks them. docs/models.md describes them.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS_DIRECTORY = ROOT / "build/models"
GENERATED_CLASSES = 20  # of the images that this file draws


def images(count, seed, channels=3, size=224):
    """(images, labels): gratings whose direction, wavelength and colours are their class's, with shift and noise of their own."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % GENERATED_CLASSES)
    y, x = np.mgrid[0:size, 0:size] / size
    drawn = np.empty((count, channels, size, size), np.float32)
    for image, label in zip(drawn, labels):
        of_class = np.random.default_rng(1000 + label)
        angle, cycles = np.pi * label / GENERATED_CLASSES, of_class.uniform(3, 12)
        wave = np.sin(2 * np.pi * (cycles * (x * np.cos(angle) + y * np.sin(angle)) + generator.uniform()))
        colours = of_class.uniform(-1, 1, (channels, 2, 1, 1))
        image[:] = colours[:, 0] + 1.5 * colours[:, 1] * wave + 0.2 * generator.standard_normal(image.shape)
    return drawn, labels


def image_inputs(name, channels, size):
    return lambda batch, seed: {name: images(batch, seed, channels, size)[0]}


def token_inputs(vocabulary, length, mask=True, types=False):
    """Token ids; every second sequence ends in padding."""

    def inputs(batch, seed):
        generator = np.random.default_rng(seed)
        made = {"input_ids": generator.integers(1, vocabulary, (batch, length))}
        if mask:
            made["attention_mask"] = np.ones((batch, length), np.int64)
            for row in range(0, batch, 2):
                made["attention_mask"][row, length - length // 4:] = 0
            made["input_ids"] = made["input_ids"] * made["attention_mask"]
        if types:
            made["token_type_ids"] = np.broadcast_to(np.arange(length) >= length // 2, (batch, length)).astype(np.int64)
        return made

    return inputs


def normal_inputs(**shapes):
    def inputs(batch, seed):
        generator = np.random.default_rng(seed)
        return {name: generator.standard_normal((batch, *shape), np.float32) for name, shape in shapes.items()}

    return inputs


@dataclasses.dataclass(frozen=True)
class Model:
    what: str
    dimensions: str
    source: str  # of the dimensions and of the parameter count
    exporter: str  # "dynamo", "torchscript", "keras" or "quantised"
    inputs: Callable | None  # (batch, seed) -> {name: array}; none for models whose weights are absent
    parameters: int | None  # as published or counted from the published dimensions; None: not a float model
    classes: bool = False  # its last layer is fitted to the generated images
    gflop: float | None = None  # of the matrix products of one sample, forward, as published or derived


MODELS = {
    "mnist_cnn": Model("digits", "conv 1-32-64 3x3, FC 1600-128-10", "Graphcore tutorial", "torchscript",
                       image_inputs("image", 1, 28), 225_034, True, gflop=0.00526),
    "lenet": Model("digits", "conv 1-6-16 3x3, FC 784-120-84-10", "SambaNova tutorial", "dynamo",
                   image_inputs("image", 1, 28), 106_132, True, gflop=0.000633),
    "resnet18": Model("images", "basic blocks 2-2-2-2", "He 2015, table 1", "torchscript",
                      image_inputs("image", 3, 224), 11_689_512, True),
    "resnet50": Model("images", "bottlenecks 3-4-6-3, stride in the 3x3 (v1.5)", "He 2015, table 1", "dynamo",
                      image_inputs("image", 3, 224), 25_557_032, True, gflop=8.2),
    "resnet50_int8": Model("images, int8", "resnet50 by ONNX Runtime's static quantiser (QDQ, per channel)",
                           "He 2015, table 1", "quantised", image_inputs("image", 3, 224), None, True),
    "mobilenet_v2": Model("images", "17 inverted residuals, width 1.0", "Sandler 2018, table 2", "torchscript",
                          image_inputs("image", 3, 224), 3_504_872, True),
    "bert_tiny": Model("text encoder", "L2 d128 h2 ff512 V30522, S128", "Groq course page", "torchscript",
                       token_inputs(30522, 128, types=True), 4_385_920, gflop=0.117),
    "bert_base": Model("text encoder", "L12 d768 h12 ff3072 V30522, S128", "Devlin 2018", "dynamo",
                       token_inputs(30522, 128, types=True), 109_482_240, gflop=22.35),
    "bert_large": Model("text encoder", "L24 d1024 h16 ff4096 V30522, S128", "Devlin 2018; CS-2, SN30 course pages",
                        "torchscript", token_inputs(30522, 128, types=True), 335_141_888, gflop=78.92),
    "minilm_l6": Model("sentence encoder", "L6 d384 h12 ff1536 V30522, S128", "all-MiniLM-L6-v2; Groq course page",
                       "dynamo", token_inputs(30522, 128, types=True), 22_713_216, gflop=2.87),
    "distilbert": Model("text encoder", "L6 d768 h12 ff3072 V30522, S128", "Sanh 2019", "torchscript",
                        token_inputs(30522, 128), 66_362_880),
    "gpt2": Model("text decoder", "L12 d768 h12 V50257 ctx1024, S256", "Radford 2019", "dynamo",
                  token_inputs(50257, 256), 124_439_808, gflop=65.7),
    "gpt2_2048": Model("text decoder", "L12 d768 h12 V50257 ctx2048, S2048", "CS-2 course page", "dynamo",
                       token_inputs(50257, 2048, mask=False), 125_226_240, gflop=660.6),
    "deit_tiny": Model("images", "L12 d192 h3, patch 16", "Touvron 2020, table 1", "dynamo",
                       image_inputs("image", 3, 224), 5_717_416, True),
    "unet256": Model("segmentation", "32-64-128-256-512, 4 levels, 256x256", "SN30 course page", "torchscript",
                     image_inputs("image", 3, 256), 7_763_041, gflop=24.14),
    "uno": Model("drug response", "towers 942, 5270, 2048 -> 3x1000; 5002 -> 3x1000 -> 1", "CANDLE Pilot1/Uno", "dynamo",
                 normal_inputs(cell_rnaseq=(942,), dose1=(1,), dose2=(1,), drug1_descriptors=(5270,),
                               drug1_fingerprints=(2048,), drug2_descriptors=(5270,), drug2_fingerprints=(2048,)),
                 21_275_001, gflop=0.0652),
    "braggnn": Model("X-ray peaks", "conv 1-64-32-8, non-local block, FC 200-16-8-4-2-2", "Liu 2022, model.py",
                     "torchscript", normal_inputs(patch=(1, 11, 11)), 33_172, gflop=0.0042),
    "nucleotide_transformer": Model("genomics", "NT v2 50M shape: L12 d512 h16 ff2048 V4107, S512, RoPE, SwiGLU",
                                    "Dalla-Torre 2023", "dynamo", token_inputs(4107, 512), 52_464_139),
    "lstm_seq": Model("sequences", "2 bidirectional LSTM layers of 128, 64 features, S100", "our own", "torchscript",
                      normal_inputs(sequence=(100, 64)), 596_490),
    "vae": Model("digits", "conv 1-32-64 stride 2, latent 32, transposed convs back", "our own", "dynamo",
                 lambda batch, seed: {**image_inputs("image", 1, 28)(batch, seed),
                                      **normal_inputs(noise=(32,))(batch, seed)}, 975_137),
    "keras_cnn": Model("images", "conv 3-16-32, batch norm, pooling, FC 64-10, 32x32, channels last", "our own", "keras",
                       normal_inputs(image=(32, 32, 3)), None),
    "keras_separable": Model("images", "separable convs with residuals, transposed conv, FC 10, 32x32, channels last",
                             "our own", "keras", normal_inputs(image=(32, 32, 3)), None),
    "gpt2_xl_shape": Model("text decoder", "L48 d1600 h25 V50257, S1024", "Radford 2019; SN30 course page", "dynamo",
                           None, 1_557_611_200, gflop=3507),
    "llama2_7b_shape": Model("text decoder", "L32 d4096 h32 ff11008 V32000, S4096", "Touvron 2023", "dynamo", None,
                             6_738_415_616, gflop=62_921),
    "llama2_7b_prompt_shape": Model("text decoder", "L32 d4096 h32 ff11008 V32000, S16", "Touvron 2023; Groq course page",
                                    "dynamo", None, 6_738_415_616),
    "llama3_8b_decode_shape": Model("one decode step", "L32 d4096 h32 kv8 ff14336 V128256, cache 2047", "Llama 3 2024",
                                    "dynamo", None, 8_030_261_248),
}
# Small enough to be kept in test/zoo as their exporters wrote them, so that the tests need no framework.
TINY = {
    "tiny_resnet_dynamo": Model("images", "7x7/8, blocks of 8 and 16, FC 20, 32x32", "our own", "dynamo",
                                image_inputs("image", 3, 32), 6_396, True),
    "tiny_resnet_torchscript": Model("images", "the same", "our own", "torchscript", image_inputs("image", 3, 32), 6_396,
                                     True),
    "tiny_resnet_int8": Model("images, int8", "the same", "our own", "quantised", image_inputs("image", 3, 32), None, True),
    "tiny_transformer_dynamo": Model("genomics", "L2 d24 h4 ff48 V69, S16", "our own", "dynamo", token_inputs(69, 16), 13_485),
    "tiny_transformer_torchscript": Model("genomics", "the same", "our own", "torchscript", token_inputs(69, 16), 13_485),
    "tiny_transformer_int8": Model("genomics, int8", "the same", "our own", "quantised", token_inputs(69, 16), None),
    "keras_separable": MODELS["keras_separable"],
}
EVERY = {**MODELS, **TINY}
