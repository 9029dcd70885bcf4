// Element-wise work of training on the CPU, member by member: what `study/kernels.py` says in torch, as loops over rows.
//
// Legend: E members, H units, B examples, L layers; S the type of states, P that of products (equal to S or shorter).
// All tensors are contiguous; a row is one unit for all examples. Moments are taken over examples (batch
// normalization), units (layer, rms) or not at all.
// No sum runs over more than one member, so a member's bits depend on nothing but its own row lengths.
//
// A member's tile of H × B numbers stays in the fastest caches from its first pass to its last, where a library that
// goes over whole packs fetches it anew for each pass.
//
// To add an activation, add a struct with its value and slope, and a line to ROWS_OF. Constants are those of the Python
// modules, which `study/native_library.py` passes as macros.

#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "native_exports.h"

namespace {

using at::vec::Vectorized;

struct bfloat16 {
  uint16_t bits;
};

inline float widen(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }

inline uint16_t shortened_bits(float x) {  // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

inline void shorten(const float* from, bfloat16* to, int64_t count) {
  int64_t i = 0;
#ifdef __AVX512BF16__
  for (; i + 16 <= count; i += 16) {
    const auto shortened = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
    std::memcpy(to + i, &shortened, sizeof(shortened));
  }
#endif
  for (; i < count; ++i) to[i].bits = shortened_bits(from[i]);
}
template <typename S>
void shorten(const S* from, S* to, int64_t count) {
  std::memcpy(to, from, count * sizeof(S));
}

// ---- activations: φ(z), and φ'(z) where φ(z) is known, of a vector

template <typename V>
V select(const V& where_false, const V& where_true, const V& mask) {
  return V::blendv(where_false, where_true, mask);
}

struct Relu {
  template <typename V> static V value(const V& z) { return at::vec::clamp_min(z, V(0)); }
};

struct LeakyRelu {
  template <typename V> static V value(const V& z) { return select(z * V(LEAKY_SLOPE), z, z > V(0)); }
  template <typename V> static V slope(const V& z, const V&) { return select(V(LEAKY_SLOPE), V(1), z > V(0)); }
};

struct Tanh {
  template <typename V> static V value(const V& z) { return z.tanh(); }
  template <typename V> static V slope(const V&, const V& value) { return V(1) - value * value; }
};

struct Sigmoid {
  // e = exp(−|z|) overflows on neither side.
  template <typename V> static V of(const V& z, const V& e) { return select(e, V(1), z > V(0)) / (V(1) + e); }
  template <typename V> static V value(const V& z) { return of(z, z.abs().neg().exp()); }
  template <typename V> static V slope(const V& z, const V&) {
    const V e = z.abs().neg().exp(), u = V(1) + e;
    return e / (u * u);
  }
};

struct Elu {
  template <typename V> static V value(const V& z) {
    return select(at::vec::clamp_max(z, V(0)).expm1(), z, z > V(0));
  }
  template <typename V> static V slope(const V& z, const V&) {
    return select(at::vec::clamp_max(z, V(0)).exp(), V(1), z > V(0));
  }
};

struct Selu {
  template <typename V> static V value(const V& z) {
    return V(SELU_SCALE) * select(V(SELU_ALPHA) * at::vec::clamp_max(z, V(0)).expm1(), z, z > V(0));
  }
  template <typename V> static V slope(const V& z, const V&) {
    return V(SELU_SCALE) * select(V(SELU_ALPHA) * at::vec::clamp_max(z, V(0)).exp(), V(1), z > V(0));
  }
};

struct Gelu {
  template <typename V> static V normal_distribution(const V& z) {
    return V(0.5) * (V(1) + (z * V(0.70710678118654752440)).erf());
  }
  template <typename V> static V value(const V& z) { return z * normal_distribution(z); }
  template <typename V> static V slope(const V& z, const V&) {
    const V density = V(0.39894228040143267794) * (V(-0.5) * z * z).exp();
    return normal_distribution(z) + z * density;
  }
};

struct Silu {
  template <typename V> static V value(const V& z) { return z * Sigmoid::value(z); }
  template <typename V> static V slope(const V& z, const V&) {
    const V e = z.abs().neg().exp(), u = V(1) + e;
    return Sigmoid::of(z, e) + z * e / (u * u);
  }
};

struct Softplus {
  template <typename V> static V value(const V& z) {
    return at::vec::clamp_min(z, V(0)) + z.abs().neg().exp().log1p();
  }
  template <typename V> static V slope(const V& z, const V&) { return Sigmoid::value(z); }
};

struct Identity {
  template <typename V> static V value(const V& z) { return z; }
  template <typename V> static V slope(const V&, const V&) { return V(1); }
};

// g · φ'(z)
template <typename Phi, typename V>
V pull_through(const V& z, const V& value, const V& g) {
  if constexpr (std::is_same_v<Phi, Relu>)
    return select(g, V(0), z <= V(0));  // no product: where a unit is off, an infinite g is stopped, too
  else
    return Phi::slope(z, value) * g;
}

// ---- activations: rows

template <typename S>
struct Rows {
  void (*forward)(const S* n, S scale, S* a, int64_t length);                       // a = scale · φ(n)
  void (*backward)(const S* n, S scale, const S* g_a, S* g, S* a, int64_t length);  // and g = φ'(n) · scale · g_a
};

template <typename S, typename Phi>
void go_forward(const S* n, S scale, S* a, int64_t length) {
  using V = Vectorized<S>;
  for (int64_t i = 0; i < length; i += V::size()) {
    const int64_t count = std::min<int64_t>(V::size(), length - i);
    (V(scale) * Phi::value(V::loadu(n + i, count))).store(a + i, count);
  }
}

template <typename S, typename Phi>
void go_backward(const S* n, S scale, const S* g_a, S* g, S* a, int64_t length) {
  using V = Vectorized<S>;
  for (int64_t i = 0; i < length; i += V::size()) {
    const int64_t count = std::min<int64_t>(V::size(), length - i);
    const V z = V::loadu(n + i, count), value = Phi::value(z);
    pull_through<Phi>(z, value, V(scale) * V::loadu(g_a + i, count)).store(g + i, count);
    (V(scale) * value).store(a + i, count);
  }
}

template <typename S>
struct NamedRows {
  const char* name;
  Rows<S> rows;
};

template <typename S, typename Phi>
constexpr Rows<S> make_rows() { return {go_forward<S, Phi>, go_backward<S, Phi>}; }

template <typename S>
const NamedRows<S> ROWS_OF[] = {
    {"relu", make_rows<S, Relu>()},       {"leaky_relu", make_rows<S, LeakyRelu>()},
    {"tanh", make_rows<S, Tanh>()},       {"sigmoid", make_rows<S, Sigmoid>()},
    {"selu", make_rows<S, Selu>()},       {"elu", make_rows<S, Elu>()},
    {"gelu", make_rows<S, Gelu>()},       {"silu", make_rows<S, Silu>()},
    {"softplus", make_rows<S, Softplus>()}, {"identity", make_rows<S, Identity>()},
};

// ---- blocks

enum Axis : int64_t { NO_AXIS = 0, EXAMPLES = 1, UNITS = 2 };

template <typename S>
S inverse_deviation(S variance) { return S(1) / std::sqrt(variance + S(EPSILON)); }

// state = skip · v + product + shift, without the first term where a member has no skip path.
template <typename S, typename P>
void write_state(const S* v, const P* product, S skip, S shift, S* state, int64_t length) {
  if (v && skip != 0) {
#pragma GCC ivdep
    for (int64_t i = 0; i < length; ++i) state[i] = skip * v[i] + (widen(product[i]) + shift);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < length; ++i) state[i] = widen(product[i]) + shift;
  }
}

// a = scale · φ(n), through `room` [B] where products are in a shorter type.
template <typename S, typename P>
void write_activation(const Rows<S>& phi, const S* n, S scale, S* room, P* a, int64_t length) {
  if constexpr (std::is_same_v<S, P>) {
    phi.forward(n, scale, a, length);
  } else {
    phi.forward(n, scale, room, length);
    shorten(room, a, length);
  }
}

template <typename S>
S mean_of(const S* row, int64_t length) {
  S sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < length; ++i) sum += row[i];
  return sum / length;
}

template <typename S>
S variance_of(const S* row, S mean, int64_t length) {
  S square = 0;
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < length; ++i) square += (row[i] - mean) * (row[i] - mean);
  return square / length;
}

template <typename S>
void standardise_row(const S* from, S mean, S factor, S* to, int64_t length) {
#pragma GCC ivdep
  for (int64_t i = 0; i < length; ++i) to[i] = (from[i] - mean) * factor;
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
  const Rows<S> phi = ROWS_OF<S>[activation].rows;
  const int64_t tile = units * examples;
  std::vector<S> room(examples), inverse(examples);
  for (int64_t e = 0; e < members; ++e, product += tile, bias += units, n += tile, a += tile) {
    S* states = v_next ? v_next + e * tile : n;  // n is written over it
    for (int64_t j = 0; j < units; ++j) {
      const int64_t row = j * examples;
      S* state = states + row;
      write_state(v ? v + e * tile + row : nullptr, product + row, skip[e], residual[e] * bias[j], state, examples);
      if (axis == UNITS) continue;
      if (axis == EXAMPLES) {
        const S centre = mean[e * units + j] = mean_of(state, examples);
        const S square = variance[e * units + j] = variance_of(state, centre, examples);
        standardise_row(state, centre, inverse_deviation(square), n + row, examples);
      } else if (n + row != state) {
        std::memcpy(n + row, state, examples * sizeof(S));
      }
      write_activation(phi, n + row, scale[e], room.data(), a + row, examples);
    }
    if (axis != UNITS) continue;
    S* centre = mean + e * examples;
    S* square = variance + e * examples;
    moments_of_units(states, units, examples, centred, centre, square);
    for (int64_t i = 0; i < examples; ++i) inverse[i] = inverse_deviation(square[i]);
    for (int64_t row = 0; row < tile; row += examples) {
      standardise_examples(states + row, centre, inverse.data(), n + row, examples);
      write_activation(phi, n + row, scale[e], room.data(), a + row, examples);
    }
  }
}

template <typename S, typename P>
void advance_evaluating(int64_t activation, int64_t axis, int64_t centred, int64_t members, int64_t units,
                        int64_t examples, const S* v, const P* product, const S* bias, const S* skip,
                        const S* residual, const S* scale, const S* mean, const S* variance, S* v_next, P* a) {
  const Rows<S> phi = ROWS_OF<S>[activation].rows;
  const int64_t tile = units * examples;
  std::vector<S> room(examples), row_of_n(examples), own(v_next ? 0 : axis == UNITS ? tile : examples);
  std::vector<S> centre(examples), square(examples);
  const int64_t step = v_next || axis == UNITS ? examples : 0;  // from one row of states to the next
  for (int64_t e = 0; e < members; ++e, product += tile, bias += units, a += tile) {
    S* states = v_next ? v_next + e * tile : own.data();
    for (int64_t j = 0; j < units; ++j) {
      const int64_t row = j * examples;
      S* state = states + j * step;
      write_state(v ? v + e * tile + row : nullptr, product + row, skip[e], residual[e] * bias[j], state, examples);
      if (axis == UNITS) continue;
      const S* normalized = state;
      if (axis == EXAMPLES) {
        const S factor = inverse_deviation(variance[e * units + j]);
        standardise_row(state, mean[e * units + j], factor, row_of_n.data(), examples);
        normalized = row_of_n.data();
      }
      write_activation(phi, normalized, scale[e], room.data(), a + row, examples);
    }
    if (axis != UNITS) continue;
    moments_of_units(states, units, examples, centred, centre.data(), square.data());
    for (int64_t i = 0; i < examples; ++i) square[i] = inverse_deviation(square[i]);
    for (int64_t row = 0; row < tile; row += examples) {
      standardise_examples(states + row, centre.data(), square.data(), row_of_n.data(), examples);
      write_activation(phi, row_of_n.data(), scale[e], room.data(), a + row, examples);
    }
  }
}

// g_n = φ'(n) · scale · g_a, and a again.
template <typename S, typename P>
void pull_through_activation(const Rows<S>& phi, const S* n, S scale, const P* g_a, S* room, S* g_n, P* a,
                             int64_t length) {
  if constexpr (std::is_same_v<S, P>) {
    phi.backward(n, scale, g_a, g_n, a, length);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < length; ++i) g_n[i] = widen(g_a[i]);
    phi.backward(n, scale, g_n, g_n, room, length);
    shorten(room, a, length);
  }
}

template <typename S, typename P>
void pull_back(int64_t activation, int64_t axis, int64_t centred, int64_t members, int64_t units, int64_t examples,
               const P* g_a, const S* n, const S* variance, const S* scale, const S* g_next, const S* skip,
               const S* residual, S* g, P* g_short, P* a, S* to_bias) {
  const Rows<S> phi = ROWS_OF<S>[activation].rows;
  const int64_t tile = units * examples;
  std::vector<S> room(examples), along(examples), mean(examples), inverse(examples);
  std::vector<S> own(g ? 0 : axis == UNITS ? tile : examples);
  const int64_t step = g || axis == UNITS ? examples : 0;  // from one row of results to the next
  for (int64_t e = 0; e < members; ++e, g_a += tile, n += tile, a += tile) {
    S* results = g ? g + e * tile : own.data();
    const auto finish_row = [&](int64_t j, S* result) {
      if (g_next && skip[e] != 0) {
        const S* above = g_next + e * tile + j * examples;
#pragma GCC ivdep
        for (int64_t i = 0; i < examples; ++i) result[i] = skip[e] * above[i] + result[i];
      }
      if (axis != EXAMPLES) {
        S sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < examples; ++i) sum += result[i];
        to_bias[e * units + j] = residual[e] * sum;
      }
      if (g_short) shorten(result, g_short + e * tile + j * examples, examples);
    };
    if (axis == UNITS) {
      std::fill(along.begin(), along.end(), S(0));
      std::fill(mean.begin(), mean.end(), S(0));
    }
    for (int64_t j = 0; j < units; ++j) {
      const int64_t row = j * examples;
      const S* normalized = n + row;
      S* result = results + j * step;
      pull_through_activation(phi, normalized, scale[e], g_a + row, room.data(), result, a + row, examples);
      if (axis == UNITS) {
#pragma GCC ivdep
        for (int64_t i = 0; i < examples; ++i) {
          along[i] += result[i] * normalized[i];
          mean[i] += result[i];
        }
        continue;
      }
      if (axis == EXAMPLES) {
        S dot = 0, sum = 0;
#pragma omp simd reduction(+ : dot, sum)
        for (int64_t i = 0; i < examples; ++i) {
          dot += result[i] * normalized[i];
          sum += result[i];
        }
        dot /= examples;
        sum /= examples;
        const S factor = inverse_deviation(variance[e * units + j]);
#pragma GCC ivdep
        for (int64_t i = 0; i < examples; ++i) result[i] = (result[i] - normalized[i] * dot - sum) * factor;
      }
      finish_row(j, result);
    }
    if (axis != UNITS) continue;
    for (int64_t i = 0; i < examples; ++i) {
      along[i] /= units;
      mean[i] = centred ? mean[i] / units : S(0);
      inverse[i] = inverse_deviation(variance[e * examples + i]);
    }
    for (int64_t j = 0; j < units; ++j) {
      const S* normalized = n + j * examples;
      S* result = results + j * examples;
#pragma GCC ivdep
      for (int64_t i = 0; i < examples; ++i) result[i] = (result[i] - normalized[i] * along[i] - mean[i]) * inverse[i];
      finish_row(j, result);
    }
  }
}

// ---- loss

// g = (softmax − one-hot) / B of the logits, product + bias, [C, B] each; and the gradient of the bias, [C].
template <typename S, typename P>
void pull_back_loss(int64_t members, int64_t classes, int64_t examples, const P* product, const S* bias,
                    const int64_t* labels, P* g, S* to_bias) {
  using V = Vectorized<S>;
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
      for (int64_t i = 0; i < examples; i += V::size()) {
        const int64_t count = std::min<int64_t>(V::size(), examples - i);
        S* logits = &tile[c * examples + i];
        const V power = (V::loadu(logits, count) - V::loadu(&largest[i], count)).exp();
        power.store(logits, count);
        (V::loadu(&total[i], count) + power).store(&total[i], count);
      }
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
  for (const auto& entry : ROWS_OF<float>) {
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
