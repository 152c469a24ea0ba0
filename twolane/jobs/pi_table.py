"""How many primes there are up to powers of ten and of two, as published.

The values stand against which :func:`twolane.jobs.primes.count_primes` is checked, and that no
code of this project has computed.
"""

from __future__ import annotations

from typing import Final

# fmt: off
# The number of primes below 10**n, n = 0 … 18. Source: OEIS A006880, https://oeis.org/A006880.
BELOW_POWERS_OF_TEN: Final = (
    0, 4, 25, 168, 1_229, 9_592, 78_498, 664_579, 5_761_455, 50_847_534, 455_052_511, 4_118_054_813,
    37_607_912_018, 346_065_536_839, 3_204_941_750_802, 29_844_570_422_669, 279_238_341_033_925,
    2_623_557_157_654_233, 24_739_954_287_740_860,
)
# The number of primes up to 2**n, n = 0 … 52. Source: OEIS A007053, https://oeis.org/A007053.
UP_TO_POWERS_OF_TWO: Final = (
    0, 1, 2, 4, 6, 11, 18, 31, 54, 97, 172, 309, 564, 1_028, 1_900, 3_512, 6_542, 12_251, 23_000,
    43_390, 82_025, 155_611, 295_947, 564_163, 1_077_871, 2_063_689, 3_957_809, 7_603_553,
    14_630_843, 28_192_750, 54_400_028, 105_097_565, 203_280_221, 393_615_806, 762_939_111,
    1_480_206_279, 2_874_398_515, 5_586_502_348, 10_866_266_172, 21_151_907_950, 41_203_088_796,
    80_316_571_436, 156_661_034_233, 305_761_713_237, 597_116_381_732, 1_166_746_786_182,
    2_280_998_753_949, 4_461_632_979_717, 8_731_188_863_470, 17_094_432_576_778, 33_483_379_603_407,
    65_612_899_915_304, 128_625_503_610_475,
)
# fmt: on

_KNOWN: Final = {2**n: count for n, count in enumerate(UP_TO_POWERS_OF_TWO)} | {
    10**n: count for n, count in enumerate(BELOW_POWERS_OF_TEN)
}


def known_prime_count(x: int) -> int | None:
    """π(x), the number of primes p <= x, where ``x`` is in a table, else ``None``.

    The tables' numbers are composite, but for 2: so for any other ``x`` the count of p < x, which
    is what ``count_primes(0, x)`` answers, is the same.
    """
    return _KNOWN.get(x)
