// Element-wise work of GSC probes on the CPU: what `study/probe_kernels.py` says in torch, as loops over rows.
//
// Legend: P probe vectors, B examples, H units. All tensors are contiguous; a row is one example for all units.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "native_activations.h"
#include "native_exports.h"

namespace {

template <typename S>
S divide(S numerator, S denominator) { return denominator > 0 ? numerator / denominator : S(0); }

// v [B, H] → n = N(v), slopes = φ'(n) over the deviation that v was divided by, and a = φ(n).
template <typename S>
void linearize(int64_t activation, int64_t axis, int64_t centred, int64_t examples, int64_t units, const S* v, S* n,
               S* slopes, S* a) {
  const auto phi = ROWS_OF<S, S>[activation].rows;
  std::vector<S> mean(units), variance(units), inverse(units, S(1));
  if (axis == EXAMPLES) {
    for (int64_t b = 0; b < examples; ++b)
#pragma GCC ivdep
      for (int64_t j = 0; j < units; ++j) mean[j] += v[b * units + j];
    for (S& m : mean) m = centred ? m / examples : S(0);
    for (int64_t b = 0; b < examples; ++b)
#pragma GCC ivdep
      for (int64_t j = 0; j < units; ++j) {
        const S residual = v[b * units + j] - mean[j];
        variance[j] += residual * residual;
      }
    for (int64_t j = 0; j < units; ++j) inverse[j] = inverse_deviation(variance[j] / examples);
  }
  for (int64_t b = 0; b < examples; ++b, v += units, n += units, slopes += units, a += units) {
    if (axis == UNITS) {
      S sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < units; ++j) sum += v[j];
      const S centre = centred ? sum / units : S(0);
#pragma omp simd reduction(+ : square)
      for (int64_t j = 0; j < units; ++j) square += (v[j] - centre) * (v[j] - centre);
      std::fill(mean.begin(), mean.end(), centre);
      std::fill(inverse.begin(), inverse.end(), inverse_deviation(square / units));
    }
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) n[j] = (v[j] - mean[j]) * inverse[j];
    S dot, sum;
    phi.backward(n, S(1), inverse.data(), slopes, a, &dot, &sum, units);
  }
}

// g [P, B, H] → N'ᵀ(φ' ∘ g), plus skip · g_above where there is one; and its squared norms, [P].
// φ' ∘ g is written before moments are taken, so that its mean, and it, are rounded alike: what normalization takes out
// entirely is then exactly 0.
template <typename S>
void pull_through(int64_t axis, int64_t centred, int64_t vectors, int64_t examples, int64_t units, const S* slopes,
                  const S* n, double skip, const S* g_above, S* g, S* squares) {
  const int64_t tile = examples * units;
  const S k = static_cast<S>(skip);
  std::vector<S> along(units), mean(units);
  for (int64_t p = 0; p < vectors; ++p, g += tile) {
    if (axis == EXAMPLES) {
      std::fill(along.begin(), along.end(), S(0));
      std::fill(mean.begin(), mean.end(), S(0));
      for (int64_t b = 0; b < examples; ++b)
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) {
          const S through = g[b * units + j] *= slopes[b * units + j];
          along[j] += through * n[b * units + j];
          mean[j] += through;
        }
      for (int64_t j = 0; j < units; ++j) {
        along[j] /= examples;
        mean[j] = centred ? mean[j] / examples : S(0);
      }
    }
    S total = 0;
    for (int64_t b = 0; b < examples; ++b) {
      const int64_t start = b * units;
      if (axis == UNITS) {
        S dot = 0, sum = 0;
#pragma omp simd reduction(+ : dot, sum)
        for (int64_t j = 0; j < units; ++j) {
          const S through = g[start + j] *= slopes[start + j];
          dot += through * n[start + j];
          sum += through;
        }
        std::fill(along.begin(), along.end(), dot / units);
        std::fill(mean.begin(), mean.end(), centred ? sum / units : S(0));
      }
      const S* above = g_above ? g_above + p * tile + start : nullptr;
      S square = 0;
#pragma omp simd reduction(+ : square)
      for (int64_t j = 0; j < units; ++j) {
        S result = axis == NO_AXIS ? g[start + j] * slopes[start + j] : g[start + j];
        if (axis != NO_AXIS) result -= n[start + j] * along[j] + mean[j];
        if (above) result += k * above[j];
        g[start + j] = result;
        square += result * result;
      }
      total += square;
    }
    squares[p] = total;
  }
}

// n, a [B, H] → preactivation_std, sign_diversity and linear_fit_error of `study/signal_domain.py`.
template <typename S>
void measure_domain(int64_t examples, int64_t units, const S* n, const S* a, S* measured) {
  struct Sums {
    std::vector<S> n, a, positive, negative, n_square, a_square, x, y, xx, yy, xy;
  };
  const std::vector<S> zeros(units);
  Sums of{zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros};
  for (int64_t row = 0; row < examples * units; row += units)
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) {
      const S x = n[row + j], y = a[row + j];
      of.n[j] += x;
      of.a[j] += y;
      of.positive[j] += x > 0 ? S(1) : S(0);
      of.negative[j] += x < 0 ? S(1) : S(0);
      of.n_square[j] += x * x;
      of.a_square[j] += y * y;
    }
  for (int64_t row = 0; row < examples * units; row += units)
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) {
      const S x = n[row + j] - of.n[j] / examples, y = a[row + j] - of.a[j] / examples;
      of.x[j] += x;
      of.y[j] += y;
      of.xx[j] += x * x;
      of.yy[j] += y * y;
      of.xy[j] += x * y;
    }
  const S epsilon = 1000 * std::numeric_limits<S>::epsilon(), rounding = epsilon * epsilon;
  S variance = 0, square = 0, diversity = 0, total = 0, unexplained = 0;
  for (int64_t j = 0; j < units; ++j) {
    // What the rounding of the means has added is taken out again.
    const S n_variance = of.xx[j] - of.x[j] * of.x[j] / examples, a_variance = of.yy[j] - of.y[j] * of.y[j] / examples;
    const S covariance = of.xy[j] - of.x[j] * of.y[j] / examples;
    variance += std::max(n_variance, S(0));
    square += of.n_square[j];
    diversity += std::min(of.positive[j], of.negative[j]);
    if (!(a_variance > rounding * of.a_square[j] && n_variance > rounding * of.n_square[j])) continue;
    total += a_variance;
    unexplained += std::max(a_variance - covariance * covariance / n_variance, S(0));
  }
  measured[0] = std::sqrt(divide(variance, square));
  measured[1] = diversity / (examples * units);
  measured[2] = divide(unexplained, total);
}

}  // namespace

EXPORT_AS(linearize_f64, linearize<double>)
EXPORT_AS(pull_through_f64, pull_through<double>)
EXPORT_AS(measure_domain_f64, measure_domain<double>)
