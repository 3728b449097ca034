"""Values of torch.optim.AdamW over some steps with clipping and two parameter groups: fixtures/adamw.safetensors."""

from pathlib import Path

import numpy
import safetensors
import torch
from safetensors.torch import save_file

STEPS = 8
generator = torch.Generator().manual_seed(7)
matrix = torch.nn.Parameter(torch.randn(5, 3, generator=generator))
bias = torch.nn.Parameter(torch.randn(4, generator=generator))
tensors = {"matrix": matrix.detach().clone(), "bias": bias.detach().clone()}
optimiser = torch.optim.AdamW(
    [{"params": [matrix], "lr": 3e-3, "weight_decay": 0.1}, {"params": [bias], "lr": 1e-2, "weight_decay": 0.0}],
    betas=(0.9, 0.95),
    eps=1e-8,
    foreach=False,
)
gradients = {"matrix": [], "bias": []}
after = {"matrix": [], "bias": []}
norms = []
for step in range(STEPS):
    for name, parameter in (("matrix", matrix), ("bias", bias)):
        # Every other step is short enough not to be clipped.
        parameter.grad = torch.randn(parameter.shape, generator=generator) * (0.05 if step % 2 else 2.0)
        gradients[name].append(parameter.grad.clone())
    norms.append(torch.nn.utils.clip_grad_norm_([matrix, bias], 1.0))
    optimiser.step()
    after["matrix"].append(matrix.detach().clone())
    after["bias"].append(bias.detach().clone())
for name, parameter in (("matrix", matrix), ("bias", bias)):
    tensors[f"{name}.gradient"] = torch.stack(gradients[name])
    tensors[f"{name}.after"] = torch.stack(after[name])
    tensors[f"{name}.second"] = optimiser.state[parameter]["exp_avg_sq"].clone()
tensors["norms"] = torch.stack(norms)
save_file(
    {name: tensor.contiguous() for name, tensor in tensors.items()},
    Path(__file__).parent.parent / "fixtures" / "adamw.safetensors",
    metadata={
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
        "tolerance": "2e-6 absolute on parameters",
    },
)
