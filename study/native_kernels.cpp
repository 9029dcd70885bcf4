// Element-wise work of training on the CPU, member by member: what `study/kernels.py` says in torch, as loops over rows.
//
// Legend: E members, H units, B examples, L layers; S the type of states, P that of products (equal to S or shorter).
// All tensors are contiguous; a row is one unit for all examples. Moments are taken over examples (batch
// normalization), units (layer, rms) or not at all.
// No sum runs over more than one member, so a member's bits depend on nothing but its own row lengths.
//
// A member's tile of H × B numbers stays in the fastest caches from its first pass to its last, where a library that
// goes over whole packs fetches it anew for each pass.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "native_activations.h"
#include "native_exports.h"

namespace {

// ---- blocks

// Rows that go through one pass before the next begins: a row's mean is known only some time after its last term is
// added, and meanwhile the next rows are summed.
constexpr int64_t ROWS_AT_ONCE = 8;

template <typename Work>
void for_groups_of_rows(int64_t units, const Work& work) {
  for (int64_t first = 0; first < units; first += ROWS_AT_ONCE) work(first, std::min(first + ROWS_AT_ONCE, units));
}

// state = skip · v + product + shift, without the first term where a member has no skip path.
template <typename S, typename P>
void write_state(const S* v, const P* product, S skip, S shift, S* state, int64_t length) {
  const Vectorized<S> shifts(shift), skips(skip);
  if (v && skip != 0)
    for_vectors<S>(length, [&](int64_t i, int64_t count) {
      store(skips * load(v + i, count) + (load(product + i, count) + shifts), state + i, count);
    });
  else
    for_vectors<S>(length, [&](int64_t i, int64_t count) {
      store(load(product + i, count) + shifts, state + i, count);
    });
}

template <typename S>
S mean_of(const S* row, int64_t length) {
  Vectorized<S> sums(0);
  for_vectors<S>(length, [&](int64_t i, int64_t count) { sums = sums + load(row + i, count); });
  return sum_of(sums) / length;
}

template <typename S>
S variance_of(const S* row, S mean, int64_t length) {
  using V = Vectorized<S>;
  const V means(mean), zeros(0);
  V squares(0);
  for_vectors<S>(length, [&](int64_t i, int64_t count) {
    const V residual = V::set(zeros, load(row + i, count) - means, count);
    squares = at::vec::fmadd(residual, residual, squares);
  });
  return sum_of(squares) / length;
}

// Moments over the units of a tile [H, B], [B] each: the mean (0 where it is left in), and the variance around it.
template <typename S>
void moments_of_units(const S* tile, int64_t units, int64_t examples, bool centred, S* mean, S* variance) {
  std::fill_n(mean, examples, S(0));
  std::fill_n(variance, examples, S(0));
  if (centred) {
    for (int64_t j = 0; j < units; ++j)
#pragma GCC ivdep
      for (int64_t i = 0; i < examples; ++i) mean[i] += tile[j * examples + i];
    for (int64_t i = 0; i < examples; ++i) mean[i] /= units;
  }
  for (int64_t j = 0; j < units; ++j)
#pragma GCC ivdep
    for (int64_t i = 0; i < examples; ++i) {
      const S residual = tile[j * examples + i] - mean[i];
      variance[i] += residual * residual;
    }
  for (int64_t i = 0; i < examples; ++i) variance[i] /= units;
}

// Rows of a tile standardised by example: to = (from − mean) · inverse.
template <typename S>
void standardise_examples(const S* from, const S* mean, const S* inverse, S* to, int64_t examples) {
#pragma GCC ivdep
  for (int64_t i = 0; i < examples; ++i) to[i] = (from[i] - mean[i]) * inverse[i];
}

template <typename S, typename P>
void advance(int64_t activation, int64_t axis, int64_t centred, int64_t members, int64_t units, int64_t examples,
             const S* v, const P* product, const S* bias, const S* skip, const S* residual, const S* scale, S* v_next,
             S* n, P* a, S* mean, S* variance) {
  const auto phi = ROWS_OF<S, P>[activation].rows;
  const int64_t tile = units * examples;
  std::vector<S> inverse(examples);
  for (int64_t e = 0; e < members; ++e, product += tile, bias += units, n += tile, a += tile) {
    S* states = v_next && axis != NO_AXIS ? v_next + e * tile : n;  // n is written over it
    for_groups_of_rows(units, [&](int64_t first, int64_t end) {
      for (int64_t j = first; j < end; ++j) {
        const int64_t row = j * examples;
        const S* before = v ? v + e * tile + row : nullptr;
        write_state(before, product + row, skip[e], residual[e] * bias[j], states + row, examples);
        if (axis == EXAMPLES) mean[e * units + j] = mean_of(states + row, examples);
      }
      if (axis == EXAMPLES)
        for (int64_t j = first; j < end; ++j)
          variance[e * units + j] = variance_of(states + j * examples, mean[e * units + j], examples);
      if (axis != UNITS)
        for (int64_t j = first; j < end; ++j) {
          const int64_t row = j * examples;
          const S centre = axis == EXAMPLES ? mean[e * units + j] : S(0);
          const S factor = axis == EXAMPLES ? inverse_deviation(variance[e * units + j]) : S(1);
          S* normalized = axis == NO_AXIS ? nullptr : n + row;  // else it is the state
          phi.forward(states + row, centre, factor, normalized, scale[e], a + row, examples);
        }
    });
    if (axis != UNITS) continue;
    S* centre = mean + e * examples;
    S* square = variance + e * examples;
    moments_of_units(states, units, examples, centred, centre, square);
    for (int64_t i = 0; i < examples; ++i) inverse[i] = inverse_deviation(square[i]);
    for (int64_t row = 0; row < tile; row += examples) {
      standardise_examples(states + row, centre, inverse.data(), n + row, examples);
      phi.forward(n + row, S(0), S(1), nullptr, scale[e], a + row, examples);
    }
  }
}

template <typename S, typename P>
void advance_evaluating(int64_t activation, int64_t axis, int64_t centred, int64_t members, int64_t units,
                        int64_t examples, const S* v, const P* product, const S* bias, const S* skip,
                        const S* residual, const S* scale, const S* mean, const S* variance, S* v_next, P* a) {
  const auto phi = ROWS_OF<S, P>[activation].rows;
  const int64_t tile = units * examples;
  std::vector<S> row_of_n(examples), own(v_next ? 0 : axis == UNITS ? tile : examples);
  std::vector<S> mean_of_units(examples), inverse(examples);
  const int64_t step = v_next || axis == UNITS ? examples : 0;  // from one row of states to the next
  for (int64_t e = 0; e < members; ++e, product += tile, bias += units, a += tile) {
    S* states = v_next ? v_next + e * tile : own.data();
    for (int64_t j = 0; j < units; ++j) {
      const int64_t row = j * examples;
      S* state = states + j * step;
      write_state(v ? v + e * tile + row : nullptr, product + row, skip[e], residual[e] * bias[j], state, examples);
      if (axis == UNITS) continue;
      const S centre = axis == EXAMPLES ? mean[e * units + j] : S(0);
      const S factor = axis == EXAMPLES ? inverse_deviation(variance[e * units + j]) : S(1);
      phi.forward(state, centre, factor, nullptr, scale[e], a + row, examples);
    }
    if (axis != UNITS) continue;
    moments_of_units(states, units, examples, centred, mean_of_units.data(), inverse.data());
    for (S& moment : inverse) moment = inverse_deviation(moment);
    for (int64_t row = 0; row < tile; row += examples) {
      standardise_examples(states + row, mean_of_units.data(), inverse.data(), row_of_n.data(), examples);
      phi.forward(row_of_n.data(), S(0), S(1), nullptr, scale[e], a + row, examples);
    }
  }
}

template <typename S, typename P>
void pull_back(int64_t activation, int64_t axis, int64_t centred, int64_t members, int64_t units, int64_t examples,
               const P* g_a, const S* n, const S* variance, const S* scale, const S* g_next, const S* skip,
               const S* residual, S* g, P* g_short, P* a, S* to_bias) {
  using V = Vectorized<S>;
  const auto phi = ROWS_OF<S, P>[activation].rows;
  const int64_t tile = units * examples, kept_rows = axis == UNITS ? units : ROWS_AT_ONCE;
  std::vector<S> along(examples), mean(examples), inverse(examples);
  std::vector<S> through_phi(kept_rows * examples);  // gradients with respect to n
  for (int64_t e = 0; e < members; ++e, g_a += tile, n += tile, a += tile) {
    // Write a row of gradients with respect to v: those that `through_n` returns, and what comes along the skip path.
    const auto finish_row = [&](int64_t j, const auto& through_n) INLINED {
      const int64_t start = e * tile + j * examples;
      const S* above = g_next && skip[e] != 0 ? g_next + start : nullptr;
      const V skips(skip[e]);
      V sums(0);
      for_vectors<S>(examples, [&](int64_t i, int64_t count) INLINED {
        V result = through_n(i, count);
        if (above) result = skips * load(above + i, count) + result;
        if (g) store(result, g + start + i, count);
        if (g_short) store(result, g_short + start + i, count);
        sums = sums + result;
      });
      if (axis != EXAMPLES) to_bias[e * units + j] = residual[e] * sum_of(sums);
    };
    if (axis == UNITS) {
      std::fill(along.begin(), along.end(), S(0));
      std::fill(mean.begin(), mean.end(), S(0));
    }
    for_groups_of_rows(units, [&](int64_t first, int64_t end) {
      S dot[ROWS_AT_ONCE], sum[ROWS_AT_ONCE];
      for (int64_t j = first; j < end; ++j) {
        const int64_t row = j * examples;
        S* g_n = &through_phi[j % kept_rows * examples];
        phi.backward(n + row, scale[e], g_a + row, g_n, a + row, &dot[j - first], &sum[j - first], examples);
        if (axis != UNITS) continue;
#pragma GCC ivdep
        for (int64_t i = 0; i < examples; ++i) {
          along[i] += g_n[i] * n[row + i];
          mean[i] += g_n[i];
        }
      }
      for (int64_t j = first; j < end && axis != UNITS; ++j) {
        const S *g_n = &through_phi[j % kept_rows * examples], *normalized = n + j * examples;
        if (axis == NO_AXIS) {
          finish_row(j, [&](int64_t i, int64_t count) INLINED { return load(g_n + i, count); });
          continue;
        }
        const V alongs(dot[j - first] / examples), means(sum[j - first] / examples);
        const V inverses(inverse_deviation(variance[e * units + j]));
        finish_row(j, [&](int64_t i, int64_t count) INLINED {
          return (load(g_n + i, count) - load(normalized + i, count) * alongs - means) * inverses;
        });
      }
    });
    if (axis != UNITS) continue;
    for (int64_t i = 0; i < examples; ++i) {
      along[i] /= units;
      mean[i] = centred ? mean[i] / units : S(0);
      inverse[i] = inverse_deviation(variance[e * examples + i]);
    }
    for (int64_t j = 0; j < units; ++j) {
      const S *g_n = &through_phi[j * examples], *normalized = n + j * examples;
      finish_row(j, [&](int64_t i, int64_t count) INLINED {  // what is beyond `count` is 0, as its inverse is
        const V along_n = load(normalized + i, count) * load(&along[i], count);
        return (load(g_n + i, count) - along_n - load(&mean[i], count)) * load(&inverse[i], count);
      });
    }
  }
}

// ---- loss

// g = (softmax − one-hot) / B of the logits, product + bias, [C, B] each; and the gradient of the bias, [C].
template <typename S, typename P>
void pull_back_loss(int64_t members, int64_t classes, int64_t examples, const P* product, const S* bias,
                    const int64_t* labels, P* g, S* to_bias) {
  std::vector<S> tile(classes * examples), largest(examples), total(examples);
  for (int64_t e = 0; e < members; ++e, labels += examples, bias += classes, to_bias += classes) {
    for (int64_t c = 0; c < classes; ++c, product += examples) {
      S* logits = &tile[c * examples];
#pragma GCC ivdep
      for (int64_t i = 0; i < examples; ++i) {
        logits[i] = widen(product[i]) + bias[c];
        largest[i] = c == 0 ? logits[i] : std::max(largest[i], logits[i]);
      }
    }
    std::fill(total.begin(), total.end(), S(0));
    for (int64_t c = 0; c < classes; ++c)
      for_vectors<S>(examples, [&](int64_t i, int64_t count) {
        S* logits = &tile[c * examples + i];
        const auto power = (load(logits, count) - load(&largest[i], count)).exp();
        store(power, logits, count);
        store(load(&total[i], count) + power, &total[i], count);
      });
    for (int64_t c = 0; c < classes; ++c, g += examples) {
      S* row = &tile[c * examples];
      S sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < examples; ++i) {
        row[i] = (row[i] / total[i] - (labels[i] == c)) / examples;
        sum += row[i];
      }
      to_bias[c] = sum;
      shorten(row, g, examples);
    }
  }
}

// ---- images, moments and parameters

// x = images[rows] · factor + shift
template <typename S, typename P>
void take_images(int64_t count, int64_t inputs, const uint8_t* images, const int64_t* rows, const S* factor,
                 const S* shift, P* x) {
  std::vector<S> room(inputs);
  for (int64_t i = 0; i < count; ++i, x += inputs) {
    const uint8_t* image = images + rows[i] * inputs;
    S* standardised = std::is_same_v<S, P> ? reinterpret_cast<S*>(x) : room.data();
#pragma GCC ivdep
    for (int64_t j = 0; j < inputs; ++j) standardised[j] = static_cast<S>(image[j]) * factor[j] + shift[j];
    if constexpr (!std::is_same_v<S, P>) shorten(standardised, x, inputs);
  }
}

// running += momentum · (factor · batch − running)
template <typename S>
void average(int64_t count, S* running, const S* batch, double momentum, double factor) {
  const S share = static_cast<S>(momentum), scale = static_cast<S>(factor);
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) running[i] += share * (scale * batch[i] - running[i]);
}

// Parameters are updated and, in the type of products, copied block by block: the copy finds them in the cache.
template <typename Update>
void for_blocks(int64_t count, const Update& update) {
  constexpr int64_t BLOCK = 1024;
  for (int64_t start = 0; start < count; start += BLOCK) update(start, std::min(start + BLOCK, count));
}

template <typename S, typename G, typename P>
void step_of_adam(int64_t layers, int64_t members, int64_t count, S* p, const G* g, S* m, S* s, const S* rate,
                  const S* weight_decay, const S* root_correction, double beta_1, double beta_2, S epsilon, P* short_p) {
  const S new_1 = static_cast<S>(1 - beta_1), old_2 = static_cast<S>(beta_2), new_2 = static_cast<S>(1 - beta_2);
  const S correction = *root_correction;
  for (int64_t l = 0; l < layers; ++l)
    for (int64_t e = 0; e < members; ++e, p += count, g += count, m += count, s += count) {
      for_blocks(count, [&](int64_t start, int64_t end) {
#pragma GCC ivdep
        for (int64_t i = start; i < end; ++i) {
          const S gradient = widen(g[i]) + weight_decay[e] * p[i];
          m[i] += (gradient - m[i]) * new_1;
          s[i] = s[i] * old_2 + gradient * gradient * new_2;
          p[i] -= rate[e] * m[i] / (std::sqrt(s[i]) * correction + epsilon);
        }
        if (short_p) shorten(p + start, short_p + (l * members + e) * count + start, end - start);
      });
    }
}

template <typename S, typename G, typename P>
void step_of_sgd(int64_t layers, int64_t members, int64_t count, S* p, const G* g, S* b, const S* rate,
                 const S* weight_decay, const S* momentum, P* short_p) {
  for (int64_t l = 0; l < layers; ++l)
    for (int64_t e = 0; e < members; ++e, p += count, g += count, b += count) {
      for_blocks(count, [&](int64_t start, int64_t end) {
#pragma GCC ivdep
        for (int64_t i = start; i < end; ++i) {
          b[i] = momentum[e] * b[i] + (widen(g[i]) + weight_decay[e] * p[i]);
          p[i] -= rate[e] * b[i];
        }
        if (short_p) shorten(p + start, short_p + (l * members + e) * count + start, end - start);
      });
    }
}

}  // namespace

struct Call {
  void (*function)(const int64_t* words);
  const int64_t* words;
};

// Makes calls one after the other: each from Python would take some microseconds more.
EXPORT void make_calls(int64_t count, const Call* calls) {
  for (int64_t i = 0; i < count; ++i) calls[i].function(calls[i].words);
}

// Returns the number of an activation, −1 where it has no kernels.
EXPORT int64_t activation_number(const char* name) {
  int64_t number = 0;
  for (const auto& entry : ROWS_OF<float, float>) {
    if (std::strcmp(entry.name, name) == 0) return number;
    ++number;
  }
  return -1;
}

#define EXPORT_FOR(S, P, SUFFIX)                                    \
  EXPORT_AS(advance_##SUFFIX, advance<S, P>)                        \
  EXPORT_AS(advance_evaluating_##SUFFIX, advance_evaluating<S, P>)  \
  EXPORT_AS(pull_back_##SUFFIX, pull_back<S, P>)                    \
  EXPORT_AS(pull_back_loss_##SUFFIX, pull_back_loss<S, P>)          \
  EXPORT_AS(take_images_##SUFFIX, take_images<S, P>)

#define EXPORT_STEPS_FOR(S, G, P, SUFFIX)                \
  EXPORT_AS(step_of_adam_##SUFFIX, step_of_adam<S, G, P>) \
  EXPORT_AS(step_of_sgd_##SUFFIX, step_of_sgd<S, G, P>)

EXPORT_FOR(float, float, f32_f32)
EXPORT_FOR(float, bfloat16, f32_bf16)
EXPORT_FOR(double, double, f64_f64)

EXPORT_AS(average_f32, average<float>)
EXPORT_AS(average_f64, average<double>)

EXPORT_STEPS_FOR(float, float, float, f32_f32_f32)
EXPORT_STEPS_FOR(float, float, bfloat16, f32_f32_bf16)
EXPORT_STEPS_FOR(float, bfloat16, bfloat16, f32_bf16_bf16)
EXPORT_STEPS_FOR(double, double, double, f64_f64_f64)
