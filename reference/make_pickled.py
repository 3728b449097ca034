"""A state dict of every sort of tensor as torch.save writes it -> fixtures/pytorch/{numbers.bin,expected.safetensors}

    python reference/make_pickled.py

The expected values are torch's own, as float32. `llava-original` (make_models.py) is a whole model in this format.
"""

from collections import OrderedDict

import torch

from models import common

FOLDER = common.FIXTURES / "pytorch"


def main():
    FOLDER.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(7000)
    plain = torch.randn(3, 5, generator=draw)
    shared = torch.randn(4, 6, generator=draw)
    state = OrderedDict(
        {
            "single": plain,
            "half": plain.half() * 3,
            "brain": plain.bfloat16() / 7,
            "long": torch.arange(7).reshape(1, 7),
            "mask": torch.tensor([True, False, True]),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 4),
            "parameter": torch.nn.Parameter(torch.randn(2, 3, generator=draw)),
            # Views of one storage: from its middle, transposed, every second column, one dimension repeated once.
            "shared.whole": shared,
            "shared.rows": shared[1:3],
            "shared.transposed": shared.t(),
            "shared.strided": shared[:, 1::2],
            "shared.permuted": shared.reshape(2, 2, 6).permute(2, 0, 1),
            "shared.one": shared[2:3, 4:5],
        }
    )
    # What nn.Module.state_dict() adds.
    state._metadata = OrderedDict({"": {"version": 1}, "shared": {"version": 2}})
    torch.save(state, FOLDER / "numbers.bin")
    numbers = {name: tensor.detach().float() for name, tensor in state.items() if tensor.is_floating_point()}
    meta = common.metadata(7000, tolerance="0", oracle="torch")
    common.save_tensors(FOLDER / "expected.safetensors", {f"out.{name}": value for name, value in numbers.items()}, meta)
    # The older format, which is refused.
    torch.save({"a": torch.ones(2)}, FOLDER / "legacy.bin", _use_new_zipfile_serialization=False)
    for path in sorted(FOLDER.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
