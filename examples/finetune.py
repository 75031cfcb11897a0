"""Fine-tune by hand: wrap a network, hold its lower layers fixed, train the rest and attention.

    python examples/finetune.py

Runs on cluttered digits in ten seconds. For your own network and images change `network` and
`batches`; the lines in between stay.
"""

from __future__ import annotations

import torch
import torchvision
from torch.nn import functional as F

import attnzoo
from attnzoo.train import ClutteredDigits

SIZE, STEPS, BATCH = 32, 100, 16

# weights="DEFAULT" downloads what ImageNet taught it; here it starts from nothing.
network = torchvision.models.resnet18(weights=None, num_classes=10)
digits = ClutteredDigits("train", size=SIZE, clutter=3, digit=(0.7, 0.9))


def batches():
    for step in range(STEPS):
        yield digits.__getitems__([(0, 0, step * BATCH + index) for index in range(BATCH)])


# One line: attention after every residual block. The outputs are the same as before, bit for bit.
attnzoo.wrap(network, "post-residual", "local", example=(3, SIZE, SIZE))

# Lower layers stay as they are; upper ones and all attention learn. γ starts at zero, so
# attention gets ten times the learning rate; biases, norms and γ are not decayed.
attnzoo.freeze(network, until="layer1")
groups = attnzoo.param_groups(network, lr=1e-3, weight_decay=0.05, attention_lr_scale=10)
optimizer = torch.optim.AdamW(groups)

network.train()
for step, (images, labels) in enumerate(batches(), start=1):
    loss = F.cross_entropy(network(images), labels, label_smoothing=0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step:3d}  loss {loss.item():.3f}")

# A few hundred kilobytes: the blocks and what was done, to be loaded into the same plain network.
attnzoo.save(network, "attention.safetensors", what="attention")
print("attention.safetensors:", *attnzoo.recipes(network))
