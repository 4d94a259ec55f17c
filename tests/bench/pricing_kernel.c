/* Black-76 with all eight outputs, as C for the host: what the compiled kernels are held against in tests.bench.pricing.
 *
 * The same polynomials and outputs, written for gcc's vectoriser: restrict pointers, no branch, int <-> double by a magic
 * addend. With -DLIBRARY (and -ffast-math) it is the textbook on libmvec instead.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE double as_double(int64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
INLINE int64_t as_bits(double x) { int64_t bits; memcpy(&bits, &x, 8); return bits; }
INLINE double larger(double a, double b) { return a > b ? a : b; }
INLINE double smaller(double a, double b) { return a < b ? a : b; }

#ifdef LIBRARY

void greeks(long n, const double *restrict f, const double *restrict k, const double *restrict t,
            const double *restrict vol, const double *restrict rate, const unsigned char *restrict call,
            double *restrict price, double *restrict delta, double *restrict gamma, double *restrict vega,
            double *restrict theta, double *restrict rho, double *restrict vanna, double *restrict volga)
{
    for (long i = 0; i < n; i++) {
        double root = sqrt(t[i]), v = vol[i] * root;
        double d1 = log(f[i] / k[i]) / v + 0.5 * v, d2 = d1 - v;
        double discount = exp(-rate[i] * t[i]);
        double sign = call[i] ? 1.0 : -1.0;
        double n1 = 0.5 * erfc(-sign * d1 * 0.7071067811865476), n2 = 0.5 * erfc(-sign * d2 * 0.7071067811865476);
        double density = 0.3989422804014327 * exp(-0.5 * d1 * d1) * discount;
        double p = discount * sign * (f[i] * n1 - k[i] * n2);
        double vg = f[i] * density * root;
        price[i] = p;
        delta[i] = discount * sign * n1;
        gamma[i] = density / (f[i] * v);
        vega[i] = vg;
        theta[i] = -0.5 * vg * vol[i] / t[i] + rate[i] * p;
        rho[i] = -t[i] * p;
        vanna[i] = -density * d2 / vol[i];
        volga[i] = vg * d1 * d2 / vol[i];
    }
}

#else

#define MAGIC 6755399441055744.0
#define MAGIC_BITS 0x4338000000000000LL
#define HALF_SQRT_BITS 0x3FE6A09E667F3BCDLL
#define LN2_HIGH 0.6931471803691238
#define LN2_LOW 1.9082149292705877e-10

/* exp_, log_, mills_over_ and mills_under_polynomial: written out by the bench from the project's tables. */
#include "polynomials.h"

INLINE double exponential(double x)
{
    double b = smaller(larger(x, -708.0), 709.0);
    double shifted = fma(b, 1.4426950408889634, MAGIC), k = shifted - MAGIC;
    double r = fma(k, -LN2_LOW, fma(k, -LN2_HIGH, b));
    double p = fma(r * r, exp_polynomial(r), r) + 1.0;
    double scaled = p * as_double((as_bits(shifted) - MAGIC_BITS + 1023) << 52);
    return x >= -708.0 ? scaled : 0.0;
}

INLINE double log_of_quotient(double a, double b, double quotient)
{
    int64_t e = (as_bits(quotient) - HALF_SQRT_BITS) >> 52;
    double exponent = as_double(e + MAGIC_BITS) - MAGIC;
    double scaled = b * as_double((e + 1023) << 52);
    double s = (a - scaled) / (a + scaled), z = s * s, p = log_polynomial(z);
    double twice = 2.0 * s;
    return fma(exponent, LN2_HIGH, twice + fma(twice * z, p, exponent * LN2_LOW));
}

INLINE double mills(double z)
{
    double b = smaller(z, 1e20);
    return mills_over_polynomial(b) / mills_under_polynomial(b);
}

void greeks(long n, const double *restrict f, const double *restrict k, const double *restrict t,
            const double *restrict vol, const double *restrict rate, const unsigned char *restrict call,
            double *restrict price, double *restrict delta, double *restrict gamma, double *restrict vega,
            double *restrict theta, double *restrict rho, double *restrict vanna, double *restrict volga)
{
    for (long i = 0; i < n; i++) {
        double forward = f[i], strike = k[i], root = sqrt(t[i]);
        double v = larger(vol[i] * root, 1e-150);
        double low = smaller(forward, strike), high = larger(forward, strike);
        double moneyness = low / high, scale = 1.0 / (forward * v);
        double e1 = larger(log_of_quotient(low, high, moneyness) * (forward * scale) + 0.5 * v, -38.0), e2 = e1 - v;
        double n1 = exponential(-0.5 * e1 * e1 - 0.9189385332046727);
        double upper = n1 * mills(fabs(e1)), below = n1 * mills(fabs(e2));
        double in_low = e1 < 0.0 ? upper : 1.0 - upper;
        double intrinsic = call[i] ? forward - strike : strike - forward;
        double p = low * larger(in_low - below, 0.0) + larger(intrinsic, 0.0);
        double tail = forward <= strike ? in_low : below * moneyness;
        double call_delta = forward <= strike ? tail : 1.0 - tail, put_delta = forward <= strike ? tail - 1.0 : -tail;
        double discount = exponential(-rate[i] * t[i]);
        double gm = discount * (forward <= strike ? n1 : n1 * moneyness) * scale, d2 = forward <= strike ? e2 : -e1, by_forward = gm * forward;
        p *= discount;
        price[i] = p;
        delta[i] = discount * (call[i] ? call_delta : put_delta);
        gamma[i] = gm;
        vega[i] = by_forward * root * forward * v;
        theta[i] = rate[i] * p - 0.5 * (by_forward * vol[i] * (forward * vol[i]));
        rho[i] = -t[i] * p;
        vanna[i] = -by_forward * root * d2;
        volga[i] = by_forward * root * forward * root * (e1 * e2);
    }
}

#endif
