"""The zoo's networks in plain PyTorch, written from their published dimensions (docs/models.md), with random weights."""

import torch
from torch import nn
from torch.nn import functional


class MnistCnn(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 32, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 10))


class LeNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(6, 16, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(784, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def convolution(inputs, outputs, kernel, stride=1, groups=1):
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            layers = [*convolution(inputs, width, 1), nn.ReLU(), *convolution(width, width, 3, stride), nn.ReLU(),
                      *convolution(width, outputs, 1)]
        else:
            layers = [*convolution(inputs, width, 3, stride), nn.ReLU(), *convolution(width, width, 3)]
        self.layers = nn.Sequential(*layers)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x):
        return functional.relu(self.layers(x) + self.shortcut(x))


class ResNet(nn.Sequential):
    def __init__(self, blocks, bottleneck, base=64, classes=1000):
        layers = [*convolution(3, base, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = base
        for stage, count in enumerate(blocks):
            width = base << stage
            for block in range(count):
                layers.append(Residual(inputs, width, 2 if stage and not block else 1, bottleneck))
                inputs = 4 * width if bottleneck else width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        expand = [*convolution(inputs, wide, 1), nn.ReLU6()] if expansion > 1 else []
        self.layers = nn.Sequential(*expand, *convolution(wide, wide, 3, stride, wide), nn.ReLU6(),
                                    *convolution(wide, outputs, 1))
        self.same = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.same else self.layers(x)


class MobileNetV2(nn.Sequential):
    def __init__(self):
        layers, inputs = [*convolution(3, 32, 3, 2), nn.ReLU6()], 32
        for expansion, outputs, count, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                                  (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
            for block in range(count):
                layers.append(InvertedResidual(inputs, outputs, 1 if block else stride, expansion))
                inputs = outputs
        super().__init__(*layers, *convolution(inputs, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Dropout(0.2), nn.Linear(1280, 1000))


class UNet(nn.Module):
    def __init__(self, base=32, levels=4):
        super().__init__()

        def twice(inputs, outputs):
            return nn.Sequential(*convolution(inputs, outputs, 3), nn.ReLU(), *convolution(outputs, outputs, 3), nn.ReLU())

        widths = [base << level for level in range(levels + 1)]
        self.down = nn.ModuleList(twice(i, o) for i, o in zip([3, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[-2::-1])
        self.merge = nn.ModuleList(twice(2 * width, width) for width in widths[-2::-1])
        self.head = nn.Conv2d(base, 1, 1)

    def forward(self, x):
        kept = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([up(x), kept.pop()], 1))
        return torch.sigmoid(self.head(x))


class Uno(nn.Module):
    """One tower per kind of feature; the two drugs share theirs."""

    def __init__(self):
        super().__init__()

        def dense(inputs):
            return nn.Sequential(*(layer for i in (inputs, 1000, 1000) for layer in (nn.Linear(i, 1000), nn.ReLU())))

        self.cell, self.descriptors, self.fingerprints = dense(942), dense(5270), dense(2048)
        self.response = nn.Sequential(dense(5002), nn.Linear(1000, 1))

    def forward(self, cell_rnaseq, dose1, dose2, drug1_descriptors, drug1_fingerprints, drug2_descriptors,
                drug2_fingerprints):
        return self.response(torch.cat([
            self.cell(cell_rnaseq), dose1, dose2, self.descriptors(drug1_descriptors),
            self.fingerprints(drug1_fingerprints), self.descriptors(drug2_descriptors),
            self.fingerprints(drug2_fingerprints)], 1))


class BraggNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 64, 3)
        self.theta, self.phi, self.g = (nn.Conv2d(64, 32, 1) for _ in range(3))
        self.back = nn.Conv2d(32, 64, 1)
        self.rest = nn.Sequential(nn.LeakyReLU(0.01), nn.Conv2d(64, 32, 3), nn.LeakyReLU(0.01), nn.Conv2d(32, 8, 3),
                                  nn.LeakyReLU(0.01))
        widths = [200, 16, 8, 4, 2]
        dense = [layer for i, o in zip(widths, widths[1:]) for layer in (nn.Linear(i, o), nn.LeakyReLU(0.01))]
        self.dense = nn.Sequential(nn.Flatten(), *dense, nn.Linear(2, 2))

    def forward(self, patch):
        x = self.first(patch)
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        weights = torch.softmax(theta.transpose(1, 2) @ phi, -1)
        attended = (weights @ g.transpose(1, 2)).transpose(1, 2).reshape(-1, 32, x.shape[2], x.shape[3])
        return self.dense(self.rest(x + self.back(attended)))


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon=1e-5):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def rotate(x, positions, base):
    """Rotary position embedding: the halves of each head are the two coordinates."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angles = positions.to(torch.float32)[:, None] * frequencies
    sine, cosine = angles.sin(), angles.cos()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class RotaryBlock(nn.Module):
    """Attention with rotary positions and a SwiGLU feed-forward, each after its norm; no biases."""

    def __init__(self, width, heads, groups, inner, base, norm):
        super().__init__()
        self.heads, self.groups, self.size, self.base = heads, groups, width // heads, base
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        self.output = nn.Linear(width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)
        self.attention_norm, self.feed_forward_norm = norm(width), norm(width)

    def split(self, x, heads):
        return x.reshape(x.shape[0], x.shape[1], heads, self.size).transpose(1, 2)

    def forward(self, x, positions, mask, cache=None):
        h = self.attention_norm(x)
        query = rotate(self.split(self.query(h), self.heads), positions, self.base)
        key = rotate(self.split(self.key(h), self.groups), positions, self.base)
        value = self.split(self.value(h), self.groups)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        present = key, value
        if self.groups != self.heads:
            key, value = (t.repeat_interleave(self.heads // self.groups, 1) for t in present)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        h = self.feed_forward_norm(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h)), present


class NucleotideTransformer(nn.Module):
    def __init__(self, layers=12, width=512, heads=16, inner=2048, vocabulary=4107):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(RotaryBlock(width, heads, heads, inner, 10000.0, nn.LayerNorm) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))  # of the head, whose matrix is the embedding's

    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids)
        positions = torch.arange(input_ids.shape[1])
        mask = attention_mask[:, None, None, :] != 0
        for block in self.blocks:
            x, _ = block(x, positions, mask)
        return functional.linear(self.norm(x), self.embedding.weight, self.bias)


class Llama(nn.Module):
    def __init__(self, layers, width, heads, groups, inner, vocabulary, base):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(RotaryBlock(width, heads, groups, inner, base, RmsNorm) for _ in range(layers))
        self.norm = RmsNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids):
        length = input_ids.shape[1]
        positions = torch.arange(length, device=input_ids.device)
        mask = positions[None, :] <= positions[:, None]
        x = self.embedding(input_ids)
        for block in self.blocks:
            x, _ = block(x, positions, mask)
        return self.head(self.norm(x))


class LlamaDecodeStep(Llama):
    """One token with the keys and values of those before it; gives the logits and the longer cache."""

    def forward(self, input_ids, past_keys, past_values):
        positions = torch.full((1,), past_keys[0].shape[2], device=input_ids.device)
        x, keys, values = self.embedding(input_ids), [], []
        for block, key, value in zip(self.blocks, past_keys, past_values):
            x, present = block(x, positions, None, (key, value))
            keys.append(present[0])
            values.append(present[1])
        return self.head(self.norm(x)), keys, values


class LstmSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 128, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(256, 10)

    def forward(self, sequence):
        return self.head(self.lstm(sequence)[0])


class Vae(nn.Module):
    """The noise is an input, so that the output is a function of the inputs."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
                                     nn.Flatten(), nn.Linear(3136, 256), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(256, 32), nn.Linear(256, 32)
        self.decoder = nn.Sequential(nn.Linear(32, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
                                     nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1),
                                     nn.Sigmoid())

    def forward(self, image, noise):
        h = self.encoder(image)
        mean, log_variance = self.mean(h), self.log_variance(h)
        return self.decoder(mean + noise * torch.exp(0.5 * log_variance)), mean, log_variance
