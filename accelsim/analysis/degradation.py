"""What quantised weights cost in loss, as a constraint of a search over bit-widths.

The scaling law of Ouyang et al., Low-Bit Quantization Favors Undertrained
LLMs, arXiv 2411.17691, 2024 (its fitted constants from a summary of the
paper): after GPTQ the loss in nats rises by

    0.017 * D^0.5251 / (N^0.2261 * P^5.4967)

with N parameters without embeddings, D training tokens and P bits a weight;
fitted on Pythia of 160 million to 12 billion parameters, 1 to 206 billion
tokens and 2 to 4 bits.  It knows no group size and no other quantiser.
"""

from __future__ import annotations

from typing import Final

from accelsim.errors import refuse

SCALE: Final = 0.017
TOKENS: Final = 0.5251
PARAMETERS: Final = 0.2261
BITS: Final = 5.4967


def loss_increase(parameters: float, tokens: float, bits: float) -> float:
    """Nats by which the loss rises.  Raises InputError for what is not positive.

    >>> [round(loss_increase(1e9, 1e11, bits), 3) for bits in (4, 3, 2)]
    [0.046, 0.223, 2.075]
    """
    for what, value in (("parameters", parameters), ("tokens", tokens), ("bits", bits)):
        if not value > 0:
            raise refuse(f"{value:g} {what}", "a positive number")
    found: float = SCALE * tokens**TOKENS / (parameters**PARAMETERS * bits**BITS)
    return found


def least_bits(parameters: float, tokens: float, most: float, widest: int = 16) -> int:
    """The fewest whole bits a weight whose loss rises by at most ``most`` nats.

    Raises InputError where ``widest`` are not enough.

    >>> least_bits(1e9, 1e11, 0.05), least_bits(1e9, 1e12, 0.05)
    (4, 5)
    """
    for bits in range(1, widest + 1):
        if loss_increase(parameters, tokens, bits) <= most:
            return bits
    least = loss_increase(parameters, tokens, widest)
    raise refuse(f"no width up to {widest} bits keeps the loss", f"{least:.3g} nats or more")
