"""A training script of DeepSpeed 0.19.6 and before, run unchanged by both that version and this project.

``python old_loop.py --deepspeed_config ds.json --out figures.pt``: trains a tiny model for some steps, cleans it and
saves the losses and the cleaned tensors.
"""

import argparse
import json

import deepspeed
import torch
from deepspeed.compression.compress import init_compression, redundancy_clean

STEPS = 5
# The collectives' extension takes long to compile, and one rank has none.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(16, 24), torch.nn.Linear(24, 16)

    def forward(self, x):
        return x + self.outer(torch.tanh(self.inner(x)))


class Net(torch.nn.Module):
    def __init__(self, depth=4):
        super().__init__()
        self.tokens = torch.nn.Embedding(40, 16)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(depth))
        self.head = torch.nn.Linear(16, 4)

    def forward(self, ids):
        x = self.tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def batches():
    generator = torch.Generator().manual_seed(7)
    for _ in range(STEPS):
        yield torch.randint(0, 40, (8, 6), generator=generator), torch.randint(0, 4, (8,), generator=generator)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", type=int, default=-1)
    parser.add_argument("--out", required=True)
    parser = deepspeed.add_config_arguments(parser)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(3)
    with open(args.deepspeed_config) as file:
        reduction = json.load(file)["compression_training"].get("layer_reduction", {"enabled": False})
    teacher = Net()
    model = Net(reduction["keep_number_layer"] if reduction["enabled"] else 4)
    model = init_compression(model, args.deepspeed_config, teacher_model=teacher)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    engine, optimizer, _, _ = deepspeed.initialize(args=args, model=model, optimizer=optimizer)
    teacher, _, _, _ = deepspeed.initialize(args=args, model=teacher)

    losses = []
    for ids, labels in batches():
        engine.train()
        with torch.no_grad():
            target = teacher(ids).softmax(-1)
        logits = engine(ids)
        loss = torch.nn.functional.cross_entropy(logits, labels) - (target * logits.log_softmax(-1)).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())

    engine.eval()
    probe = torch.arange(24).reshape(4, 6)
    with torch.no_grad():
        before = engine(probe)
        engine = redundancy_clean(engine, args.deepspeed_config)
        after = engine(probe)
    model_to_save = engine.module if hasattr(engine, "module") else engine
    torch.save(
        {
            "losses": losses,
            "state": dict(model_to_save.state_dict()),
            "before": before,
            "after": after,
            "teacher": dict(teacher.module.state_dict()),
            "teacher_logits": teacher(probe).detach(),
        },
        args.out,
    )


if __name__ == "__main__":
    main()
