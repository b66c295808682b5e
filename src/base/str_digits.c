/*
 * The digits of a double: Grisu2 (Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers", 2010).
 * Pure function. Any thread.
 *
 * The digits always read back equal. They are the fewest that do, but for about one number in a thousand, where the 64-bit
 * arithmetic cannot tell that a shorter text lies within the bounds and one more digit, or a few, come out. redis-server 7.2
 * prints scores by this algorithm (deps/fpconv), so these cases must be the same here: an algorithm that always finds the fewest
 * (Ryu, Grisu3 with its fall-back) gives other bytes.
 *
 * A number here is frac * 2^exp. The value and the bounds halfway to its neighbours are multiplied by a power of ten from a table
 * so that the product's binary exponent is between -60 and -32; then the digits before the point are those of a 32-bit integer,
 * and those behind it come from multiplying a fraction by ten.
 */
#include "base/str_digits.h"

#include <math.h>
#include <string.h>

#define MANTISSA_BITS 52
#define HIDDEN_BIT (1ULL << MANTISSA_BITS)
#define EXP_BIAS (1023 + MANTISSA_BITS)
#define EXP_MIN (-60)
#define EXP_MAX (-32)

struct fp {
    uint64_t frac;
    int exp;
};

#define POWER_FIRST (-348)
#define POWER_STEP 8
#define N_POWERS 87

/* 10^(POWER_FIRST + i * POWER_STEP), the 64-bit fraction rounded to nearest. */
static const struct fp powers[N_POWERS] = {
    { 0xfa8fd5a0081c0288ULL, -1220 }, { 0xbaaee17fa23ebf76ULL, -1193 }, { 0x8b16fb203055ac76ULL, -1166 },
    { 0xcf42894a5dce35eaULL, -1140 }, { 0x9a6bb0aa55653b2dULL, -1113 }, { 0xe61acf033d1a45dfULL, -1087 },
    { 0xab70fe17c79ac6caULL, -1060 }, { 0xff77b1fcbebcdc4fULL, -1034 }, { 0xbe5691ef416bd60cULL, -1007 },
    { 0x8dd01fad907ffc3cULL, -980 },  { 0xd3515c2831559a83ULL, -954 },  { 0x9d71ac8fada6c9b5ULL, -927 },
    { 0xea9c227723ee8bcbULL, -901 },  { 0xaecc49914078536dULL, -874 },  { 0x823c12795db6ce57ULL, -847 },
    { 0xc21094364dfb5637ULL, -821 },  { 0x9096ea6f3848984fULL, -794 },  { 0xd77485cb25823ac7ULL, -768 },
    { 0xa086cfcd97bf97f4ULL, -741 },  { 0xef340a98172aace5ULL, -715 },  { 0xb23867fb2a35b28eULL, -688 },
    { 0x84c8d4dfd2c63f3bULL, -661 },  { 0xc5dd44271ad3cdbaULL, -635 },  { 0x936b9fcebb25c996ULL, -608 },
    { 0xdbac6c247d62a584ULL, -582 },  { 0xa3ab66580d5fdaf6ULL, -555 },  { 0xf3e2f893dec3f126ULL, -529 },
    { 0xb5b5ada8aaff80b8ULL, -502 },  { 0x87625f056c7c4a8bULL, -475 },  { 0xc9bcff6034c13053ULL, -449 },
    { 0x964e858c91ba2655ULL, -422 },  { 0xdff9772470297ebdULL, -396 },  { 0xa6dfbd9fb8e5b88fULL, -369 },
    { 0xf8a95fcf88747d94ULL, -343 },  { 0xb94470938fa89bcfULL, -316 },  { 0x8a08f0f8bf0f156bULL, -289 },
    { 0xcdb02555653131b6ULL, -263 },  { 0x993fe2c6d07b7facULL, -236 },  { 0xe45c10c42a2b3b06ULL, -210 },
    { 0xaa242499697392d3ULL, -183 },  { 0xfd87b5f28300ca0eULL, -157 },  { 0xbce5086492111aebULL, -130 },
    { 0x8cbccc096f5088ccULL, -103 },  { 0xd1b71758e219652cULL, -77 },   { 0x9c40000000000000ULL, -50 },
    { 0xe8d4a51000000000ULL, -24 },   { 0xad78ebc5ac620000ULL, 3 },     { 0x813f3978f8940984ULL, 30 },
    { 0xc097ce7bc90715b3ULL, 56 },    { 0x8f7e32ce7bea5c70ULL, 83 },    { 0xd5d238a4abe98068ULL, 109 },
    { 0x9f4f2726179a2245ULL, 136 },   { 0xed63a231d4c4fb27ULL, 162 },   { 0xb0de65388cc8ada8ULL, 189 },
    { 0x83c7088e1aab65dbULL, 216 },   { 0xc45d1df942711d9aULL, 242 },   { 0x924d692ca61be758ULL, 269 },
    { 0xda01ee641a708deaULL, 295 },   { 0xa26da3999aef774aULL, 322 },   { 0xf209787bb47d6b85ULL, 348 },
    { 0xb454e4a179dd1877ULL, 375 },   { 0x865b86925b9bc5c2ULL, 402 },   { 0xc83553c5c8965d3dULL, 428 },
    { 0x952ab45cfa97a0b3ULL, 455 },   { 0xde469fbd99a05fe3ULL, 481 },   { 0xa59bc234db398c25ULL, 508 },
    { 0xf6c69a72a3989f5cULL, 534 },   { 0xb7dcbf5354e9beceULL, 561 },   { 0x88fcf317f22241e2ULL, 588 },
    { 0xcc20ce9bd35c78a5ULL, 614 },   { 0x98165af37b2153dfULL, 641 },   { 0xe2a0b5dc971f303aULL, 667 },
    { 0xa8d9d1535ce3b396ULL, 694 },   { 0xfb9b7cd9a4a7443cULL, 720 },   { 0xbb764c4ca7a44410ULL, 747 },
    { 0x8bab8eefb6409c1aULL, 774 },   { 0xd01fef10a657842cULL, 800 },   { 0x9b10a4e5e9913129ULL, 827 },
    { 0xe7109bfba19c0c9dULL, 853 },   { 0xac2820d9623bf429ULL, 880 },   { 0x80444b5e7aa7cf85ULL, 907 },
    { 0xbf21e44003acdd2dULL, 933 },   { 0x8e679c2f5e44ff8fULL, 960 },   { 0xd433179d9c8cb841ULL, 986 },
    { 0x9e19db92b4e31ba9ULL, 1013 },  { 0xeb96bf6ebadf77d9ULL, 1039 },  { 0xaf87023b9bf0ee6bULL, 1066 },
};

static const uint64_t tens[] = { 1ULL,
                                 10ULL,
                                 100ULL,
                                 1000ULL,
                                 10000ULL,
                                 100000ULL,
                                 1000000ULL,
                                 10000000ULL,
                                 100000000ULL,
                                 1000000000ULL,
                                 10000000000ULL,
                                 100000000000ULL,
                                 1000000000000ULL,
                                 10000000000000ULL,
                                 100000000000000ULL,
                                 1000000000000000ULL,
                                 10000000000000000ULL,
                                 100000000000000000ULL,
                                 1000000000000000000ULL,
                                 10000000000000000000ULL };

static struct fp fp_of(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    int exp = (int)(bits >> MANTISSA_BITS & 0x7ff);
    uint64_t frac = bits & (HIDDEN_BIT - 1);
    return exp ? (struct fp){ frac | HIDDEN_BIT, exp - EXP_BIAS } : (struct fp){ frac, 1 - EXP_BIAS };
}

static struct fp normal(struct fp x) {
    int shift = __builtin_clzll(x.frac);
    return (struct fp){ x.frac << shift, x.exp - shift };
}

/* The upper 64 bits of the product, rounded. */
static struct fp product(struct fp a, struct fp b) {
    unsigned __int128 p = (unsigned __int128)a.frac * b.frac;
    return (struct fp){ (uint64_t)((p + (1ULL << 63)) >> 64), a.exp + b.exp + 64 };
}

/* The power that brings a number with this exponent between EXP_MIN and EXP_MAX; *ret_exp10: which. */
static struct fp power_for(int exp, int *ret_exp10) {
    int i = ((int)(-(exp + N_POWERS) * 0.30102999566398114) - POWER_FIRST) / POWER_STEP;
    while (exp + powers[i].exp + 64 < EXP_MIN) i++;
    while (exp + powers[i].exp + 64 > EXP_MAX) i--;
    *ret_exp10 = POWER_FIRST + i * POWER_STEP;
    return powers[i];
}

/* What the digits have to be within: all of it below `high`, scaled alike. */
struct bounds {
    uint64_t delta; /* from the upper bound down to the lower one */
    uint64_t value; /* from the upper bound down to the number */
};

/* The last digit may be too high by some: takes it down as long as that brings the text nearer to the number. left: what is
 * between the text and the upper bound; unit: what one in the last digit is worth. */
static void round_last(char *last, struct bounds b, uint64_t left, uint64_t unit) {
    while (left < b.value && b.delta - left >= unit && (left + unit < b.value || b.value - left > left + unit - b.value)) {
        --*last;
        left += unit;
    }
}

static int generate(struct fp high, struct bounds b, char *digits, int *exp10) {
    int n = 0, shift = -high.exp;
    uint64_t one = 1ULL << shift, whole = high.frac >> shift, rest = high.frac & (one - 1);
    for (int kappa = 9; kappa >= 0; kappa--) {
        uint64_t digit = whole / tens[kappa];
        if (digit || n) digits[n++] = (char)('0' + digit);
        whole -= digit * tens[kappa];
        uint64_t left = (whole << shift) + rest;
        if (left > b.delta) continue;
        *exp10 += kappa;
        round_last(&digits[n - 1], b, left, tens[kappa] << shift);
        return n;
    }
    for (int decimals = 1;; decimals++) {
        rest *= 10;
        b.delta *= 10;
        uint64_t digit = rest >> shift;
        if (digit || n) digits[n++] = (char)('0' + digit);
        rest &= one - 1;
        if (rest >= b.delta) continue;
        *exp10 -= decimals;
        b.value *= tens[decimals];
        round_last(&digits[n - 1], b, rest, one);
        return n;
    }
}

int str_double_digits(double v, char digits[STR_DIGITS_MAX], int *ret_exp10) {
    struct fp w = fp_of(v), high = normal((struct fp){ (w.frac << 1) + 1, w.exp - 1 });
    /* Below a power of two the neighbour is half as far. */
    int shift = w.frac == HIDDEN_BIT ? 2 : 1;
    struct fp low = { (w.frac << shift) - 1, w.exp - shift };
    low.frac <<= low.exp - high.exp;
    low.exp = high.exp;

    struct fp power = power_for(high.exp, ret_exp10);
    w = product(normal(w), power);
    high = product(high, power);
    low = product(low, power);
    low.frac++; /* the products may be off by one: stays within the true bounds */
    high.frac--;
    *ret_exp10 = -*ret_exp10;
    return generate(high, (struct bounds){ high.frac - low.frac, high.frac - w.frac }, digits, ret_exp10);
}
