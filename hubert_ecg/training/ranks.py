"""Sums and gathers over the ranks of a training run; every function also works on a single rank."""

import torch
import torch.distributed as dist


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def all_reduce_sum(tensor: torch.Tensor) -> None:
    """Sum over ranks, in place; nothing to do on a single rank."""
    if world_size() > 1:
        dist.all_reduce(tensor)


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """[row, ...] of every rank, one after the other; ranks may hold different numbers of rows."""
    if world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    most = int(torch.stack(counts).max())
    padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(gathered, padded)
    return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)])


def gather_texts(text: str) -> list[str]:
    """The text of every rank, in the order of ranks."""
    if world_size() == 1:
        return [text]
    # NCCL exchanges tensors on GPUs only.
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    raw = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8).to(device)
    together = bytes(gather_rows(raw).cpu().tolist())
    return [part.decode() for part in together.split(b"\0")[:-1]]
