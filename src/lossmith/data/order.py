"""A seeded permutation of range(n) whose i-th element costs the same for every i."""

from __future__ import annotations

from lossmith.errors import InputError

_MASK = (1 << 64) - 1
_ROUNDS = 6


def mix(value: int) -> int:
    """Scramble 64 bits so that each output bit depends on every input bit.

    Source: the finaliser of SplitMix64, Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).

    >>> mix(1) != mix(2)
    True
    """
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Permutation:
    """Map range(n) onto itself one to one, in an order set by `seed`, with O(1) time and memory for any element.

    Formula: a balanced Feistel network on the smallest even number of bits that holds n, applied again while the
    result is not below n (cycle walking; under 4 applications on average).
    Errors: InputError for n < 1; IndexError for i outside range(n).
    Source: Black, Rogaway, "Ciphers with arbitrary finite domains" (2002), method of cycle walking.

    >>> order = Permutation(10, seed=3)
    >>> sorted(order(i) for i in range(10)) == list(range(10))
    True
    """

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise InputError(f"a permutation needs at least one element; got n={n}")
        self.n = n
        self._bits = max(1, ((n - 1).bit_length() + 1) // 2)
        self._keys = [mix(mix(seed & _MASK) ^ mix(round_ + 1)) for round_ in range(_ROUNDS)]

    def __call__(self, i: int) -> int:
        """Return the element at place i."""
        if not 0 <= i < self.n:
            raise IndexError(f"expected 0 <= i < {self.n}; got {i}")
        value = self._encrypt(i)
        while value >= self.n:
            value = self._encrypt(value)
        return value

    def _encrypt(self, value: int) -> int:
        low = (1 << self._bits) - 1
        left, right = value >> self._bits, value & low
        for key in self._keys:
            left, right = right, left ^ (mix(right ^ key) & low)
        return left << self._bits | right
