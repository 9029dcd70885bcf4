// Element-wise work of training on the CPU, member by member: what `study/kernels.py` says in torch, as loops over rows.
//
// Legend: E members, B examples, H units, L layers; S the type of states, P that of products (equal to S or shorter).
// All tensors are contiguous. Moments are taken over examples (batch normalization), units (layer, rms) or not at all.
// No loop sees more than one member, so a member's bits depend on nothing but its own row lengths.
//
// A member's tile of B × H numbers stays in the fastest caches from its first pass to its last, where a library that
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

inline void shorten(float x, float& to) { to = x; }
inline void shorten(double x, double& to) { to = x; }
inline void shorten(float x, bfloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  to.bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
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

// ---- activations: rows of one example's units

template <typename S>
struct Rows {
  void (*forward)(const S* n, S scale, S* a, int64_t units);                           // a = scale · φ(n)
  void (*backward)(const S* n, S scale, const S* g_a, S* g, S* a, int64_t units);      // and g = φ'(n) · scale · g_a
};

template <typename S, typename Phi>
void go_forward(const S* n, S scale, S* a, int64_t units) {
  using V = Vectorized<S>;
  for (int64_t i = 0; i < units; i += V::size()) {
    const int64_t count = std::min<int64_t>(V::size(), units - i);
    (V(scale) * Phi::value(V::loadu(n + i, count))).store(a + i, count);
  }
}

template <typename S, typename Phi>
void go_backward(const S* n, S scale, const S* g_a, S* g, S* a, int64_t units) {
  using V = Vectorized<S>;
  for (int64_t i = 0; i < units; i += V::size()) {
    const int64_t count = std::min<int64_t>(V::size(), units - i);
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

struct Architecture {
  int64_t activation, axis, centred;
};

template <typename S>
S inverse_deviation(S variance) { return S(1) / std::sqrt(variance + S(EPSILON)); }

// state = skip · v + product + residual · bias; without the first term where a member has no skip path.
template <typename S, typename P>
void write_state(const S* v, const P* product, const S* bias, S skip, S residual, S* state, int64_t units) {
  if (v && skip != 0) {
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) state[j] = skip * v[j] + (widen(product[j]) + residual * bias[j]);
  } else {
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) state[j] = widen(product[j]) + residual * bias[j];
  }
}

// a = scale · φ(n), through `room` [H] where products are in a shorter type.
template <typename S, typename P>
void write_activation(const Rows<S>& phi, const S* n, S scale, S* room, P* a, int64_t units) {
  if constexpr (std::is_same_v<S, P>) {
    phi.forward(n, scale, a, units);
  } else {
    phi.forward(n, scale, room, units);
    for (int64_t j = 0; j < units; ++j) shorten(room[j], a[j]);
  }
}

template <typename S>
void moments_of_row(const S* row, int64_t units, bool centred, S& mean, S& variance) {
  S sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < units; ++j) sum += row[j];
  mean = sum / units;
  const S centre = centred ? mean : S(0);
#pragma omp simd reduction(+ : square)
  for (int64_t j = 0; j < units; ++j) square += (row[j] - centre) * (row[j] - centre);
  variance = square / units;
}

// Moments over the examples of a tile [B, H], [H] each.
template <typename S>
void moments_of_columns(const S* tile, int64_t examples, int64_t units, S* mean, S* variance) {
  std::fill_n(mean, units, S(0));
  std::fill_n(variance, units, S(0));
  for (int64_t i = 0; i < examples; ++i)
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) mean[j] += tile[i * units + j];
  for (int64_t j = 0; j < units; ++j) mean[j] /= examples;
  for (int64_t i = 0; i < examples; ++i)
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) {
      const S residual = tile[i * units + j] - mean[j];
      variance[j] += residual * residual;
    }
  for (int64_t j = 0; j < units; ++j) variance[j] /= examples;
}

template <typename S, typename P>
void advance(const Architecture& network, int64_t members, int64_t examples, int64_t units, const S* v,
             const P* product, const S* bias, const S* skip, const S* residual, const S* scale, S* v_next, S* n, P* a,
             S* mean, S* variance) {
  const Rows<S> phi = ROWS_OF<S>[network.activation].rows;
  const int64_t tile = examples * units;
  const int64_t moments = network.axis == EXAMPLES ? units : examples;
  std::vector<S> room(units), inverse(units);
  for (int64_t e = 0; e < members; ++e, product += tile, bias += units, n += tile, a += tile) {
    S* state = v_next ? v_next + e * tile : n;  // n is written over it
    for (int64_t i = 0; i < tile; i += units)
      write_state(v ? v + e * tile + i : nullptr, product + i, bias, skip[e], residual[e], state + i, units);
    S* member_mean = mean + e * moments;
    S* member_variance = variance + e * moments;
    if (network.axis == EXAMPLES) {
      moments_of_columns(state, examples, units, member_mean, member_variance);
      for (int64_t j = 0; j < units; ++j) inverse[j] = inverse_deviation(member_variance[j]);
    }
    for (int64_t i = 0; i < examples; ++i) {
      const S* from = state + i * units;
      S* to = n + i * units;
      if (network.axis == EXAMPLES) {
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) to[j] = (from[j] - member_mean[j]) * inverse[j];
      } else if (network.axis == UNITS) {
        moments_of_row(from, units, network.centred, member_mean[i], member_variance[i]);
        const S centre = network.centred ? member_mean[i] : S(0), factor = inverse_deviation(member_variance[i]);
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) to[j] = (from[j] - centre) * factor;
      } else if (to != from) {
        std::memcpy(to, from, units * sizeof(S));
      }
      write_activation(phi, to, scale[e], room.data(), a + i * units, units);
    }
  }
}

template <typename S, typename P>
void advance_evaluating(const Architecture& network, int64_t members, int64_t examples, int64_t units, const S* v,
                        const P* product, const S* bias, const S* skip, const S* residual, const S* scale,
                        const S* mean, const S* variance, S* v_next, P* a) {
  const Rows<S> phi = ROWS_OF<S>[network.activation].rows;
  const int64_t tile = examples * units;
  std::vector<S> room(units), inverse(units), row(units);
  for (int64_t e = 0; e < members; ++e, product += tile, bias += units, a += tile) {
    if (network.axis == EXAMPLES)
      for (int64_t j = 0; j < units; ++j) inverse[j] = inverse_deviation(variance[e * units + j]);
    for (int64_t i = 0; i < tile; i += units) {
      S* state = v_next ? v_next + e * tile + i : row.data();
      write_state(v ? v + e * tile + i : nullptr, product + i, bias, skip[e], residual[e], state, units);
      S* normalized = network.axis == NO_AXIS ? state : row.data();
      if (network.axis == EXAMPLES) {
        const S* centre = mean + e * units;
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) normalized[j] = (state[j] - centre[j]) * inverse[j];
      } else if (network.axis == UNITS) {
        S row_mean, row_variance;
        moments_of_row(state, units, network.centred, row_mean, row_variance);
        const S centre = network.centred ? row_mean : S(0), factor = inverse_deviation(row_variance);
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) normalized[j] = (state[j] - centre) * factor;
      }
      write_activation(phi, normalized, scale[e], room.data(), a + i, units);
    }
  }
}

// g_n = φ'(n) · scale · g_a, and a again.
template <typename S, typename P>
void pull_through_activation(const Rows<S>& phi, const S* n, S scale, const P* g_a, S* room, S* g_n, P* a,
                             int64_t units) {
  if constexpr (std::is_same_v<S, P>) {
    phi.backward(n, scale, g_a, g_n, a, units);
  } else {
#pragma GCC ivdep
    for (int64_t j = 0; j < units; ++j) g_n[j] = widen(g_a[j]);
    phi.backward(n, scale, g_n, g_n, room, units);
    for (int64_t j = 0; j < units; ++j) shorten(room[j], a[j]);
  }
}

template <typename S, typename P>
void pull_back(const Architecture& network, int64_t members, int64_t examples, int64_t units, const P* g_a, const S* n,
               const S* variance, const S* scale, const S* g_next, const S* skip, const S* residual, S* g, P* g_short,
               P* a, S* to_bias) {
  const Rows<S> phi = ROWS_OF<S>[network.activation].rows;
  const int64_t tile = examples * units;
  const int64_t moments = network.axis == EXAMPLES ? units : examples;
  std::vector<S> room(units), along(units), mean(units), inverse(units), own_tile(g ? 0 : tile);
  for (int64_t e = 0; e < members; ++e, g_a += tile, n += tile, a += tile) {
    S* result = g ? g + e * tile : own_tile.data();
    std::fill(along.begin(), along.end(), S(0));
    std::fill(mean.begin(), mean.end(), S(0));
    for (int64_t i = 0; i < examples; ++i) {
      const S* normalized = n + i * units;
      S* row = result + i * units;
      pull_through_activation(phi, normalized, scale[e], g_a + i * units, room.data(), row, a + i * units, units);
      if (network.axis == EXAMPLES) {
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) {
          along[j] += row[j] * normalized[j];
          mean[j] += row[j];
        }
      } else if (network.axis == UNITS) {
        S dot = 0, sum = 0;
#pragma omp simd reduction(+ : dot, sum)
        for (int64_t j = 0; j < units; ++j) {
          dot += row[j] * normalized[j];
          sum += row[j];
        }
        dot /= units;
        sum = network.centred ? sum / units : S(0);
        const S factor = inverse_deviation(variance[e * moments + i]);
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) row[j] = (row[j] - normalized[j] * dot - sum) * factor;
      }
    }
    if (network.axis == EXAMPLES)
      for (int64_t j = 0; j < units; ++j) {
        along[j] /= examples;
        mean[j] /= examples;
        inverse[j] = inverse_deviation(variance[e * units + j]);
      }
    S* member_bias = to_bias + e * units;
    if (network.axis != EXAMPLES) std::fill_n(member_bias, units, S(0));
    for (int64_t i = 0; i < tile; i += units) {
      S* row = result + i;
      if (network.axis == EXAMPLES) {
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) row[j] = (row[j] - n[i + j] * along[j] - mean[j]) * inverse[j];
      }
      if (g_next && skip[e] != 0) {
        const S* above = g_next + e * tile + i;
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) row[j] = skip[e] * above[j] + row[j];
      }
      if (network.axis != EXAMPLES) {
#pragma GCC ivdep
        for (int64_t j = 0; j < units; ++j) member_bias[j] += row[j];
      }
      if (g_short)
        for (int64_t j = 0; j < units; ++j) shorten(row[j], g_short[e * tile + i + j]);
    }
    if (network.axis != EXAMPLES)
      for (int64_t j = 0; j < units; ++j) member_bias[j] *= residual[e];
  }
}

// ---- images and parameters

// x = images[rows] · factor + shift
template <typename S, typename P>
void take_images(int64_t count, int64_t inputs, const uint8_t* images, const int64_t* rows, const S* factor,
                 const S* shift, P* x) {
  for (int64_t i = 0; i < count; ++i, x += inputs) {
    const uint8_t* image = images + rows[i] * inputs;
#pragma GCC ivdep
    for (int64_t j = 0; j < inputs; ++j) shorten(static_cast<S>(image[j]) * factor[j] + shift[j], x[j]);
  }
}

// What follows an update of parameters: copies of them in the type of products.
template <typename S, typename P>
void copy_short(const S* p, int64_t count, P* short_p) {
  for (int64_t i = 0; i < count; ++i) shorten(p[i], short_p[i]);
}

template <typename S, typename G, typename P>
void step_of_adam(int64_t layers, int64_t members, int64_t count, S* p, const G* g, S* m, S* s, const S* rate,
                  const S* weight_decay, S root_correction, double beta_1, double beta_2, S epsilon, P* short_p) {
  const S new_1 = static_cast<S>(1 - beta_1), old_2 = static_cast<S>(beta_2), new_2 = static_cast<S>(1 - beta_2);
  for (int64_t l = 0; l < layers; ++l)
    for (int64_t e = 0; e < members; ++e, p += count, g += count, m += count, s += count) {
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) {
        const S gradient = widen(g[i]) + weight_decay[e] * p[i];
        m[i] += (gradient - m[i]) * new_1;
        s[i] = s[i] * old_2 + gradient * gradient * new_2;
        p[i] -= rate[e] * m[i] / (std::sqrt(s[i]) * root_correction + epsilon);
      }
      if (short_p) copy_short(p, count, short_p + (l * members + e) * count);
    }
}

template <typename S, typename G, typename P>
void step_of_sgd(int64_t layers, int64_t members, int64_t count, S* p, const G* g, S* b, const S* rate,
                 const S* weight_decay, const S* momentum, P* short_p) {
  for (int64_t l = 0; l < layers; ++l)
    for (int64_t e = 0; e < members; ++e, p += count, g += count, b += count) {
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) {
        b[i] = momentum[e] * b[i] + (widen(g[i]) + weight_decay[e] * p[i]);
        p[i] -= rate[e] * b[i];
      }
      if (short_p) copy_short(p, count, short_p + (l * members + e) * count);
    }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// Returns the number of an activation, −1 where it has no kernels.
EXPORT int64_t activation_number(const char* name) {
  int64_t number = 0;
  for (const auto& entry : ROWS_OF<float>) {
    if (std::strcmp(entry.name, name) == 0) return number;
    ++number;
  }
  return -1;
}

#define EXPORT_FOR(S, P, SUFFIX)                                                                                       \
  EXPORT void advance_##SUFFIX(int64_t activation, int64_t axis, int64_t centred, int64_t E, int64_t B, int64_t H,     \
                               const S* v, const P* product, const S* bias, const S* skip, const S* residual,         \
                               const S* scale, S* v_next, S* n, P* a, S* mean, S* variance) {                          \
    advance<S, P>({activation, axis, centred}, E, B, H, v, product, bias, skip, residual, scale, v_next, n, a, mean,   \
                  variance);                                                                                           \
  }                                                                                                                    \
  EXPORT void advance_evaluating_##SUFFIX(int64_t activation, int64_t axis, int64_t centred, int64_t E, int64_t B,     \
                                          int64_t H, const S* v, const P* product, const S* bias, const S* skip,       \
                                          const S* residual, const S* scale, const S* mean, const S* variance,         \
                                          S* v_next, P* a) {                                                           \
    advance_evaluating<S, P>({activation, axis, centred}, E, B, H, v, product, bias, skip, residual, scale, mean,      \
                             variance, v_next, a);                                                                     \
  }                                                                                                                    \
  EXPORT void pull_back_##SUFFIX(int64_t activation, int64_t axis, int64_t centred, int64_t E, int64_t B, int64_t H,   \
                                 const P* g_a, const S* n, const S* variance, const S* scale, const S* g_next,         \
                                 const S* skip, const S* residual, S* g, P* g_short, P* a, S* to_bias) {               \
    pull_back<S, P>({activation, axis, centred}, E, B, H, g_a, n, variance, scale, g_next, skip, residual, g, g_short, \
                    a, to_bias);                                                                                       \
  }                                                                                                                    \
  EXPORT void take_images_##SUFFIX(int64_t count, int64_t inputs, const uint8_t* images, const int64_t* rows,          \
                                   const S* factor, const S* shift, P* x) {                                            \
    take_images<S, P>(count, inputs, images, rows, factor, shift, x);                                                  \
  }

#define EXPORT_STEPS_FOR(S, G, P, SUFFIX)                                                                              \
  EXPORT void step_of_adam_##SUFFIX(int64_t L, int64_t E, int64_t count, S* p, const G* g, S* m, S* s, const S* rate,  \
                                    const S* weight_decay, const S* root_correction, double beta_1, double beta_2,     \
                                    double epsilon, P* short_p) {                                                      \
    step_of_adam<S, G, P>(L, E, count, p, g, m, s, rate, weight_decay, *root_correction, beta_1, beta_2, epsilon,      \
                          short_p);                                                                                    \
  }                                                                                                                    \
  EXPORT void step_of_sgd_##SUFFIX(int64_t L, int64_t E, int64_t count, S* p, const G* g, S* b, const S* rate,         \
                                   const S* weight_decay, const S* momentum, P* short_p) {                             \
    step_of_sgd<S, G, P>(L, E, count, p, g, b, rate, weight_decay, momentum, short_p);                                 \
  }

EXPORT_FOR(float, float, f32_f32)
EXPORT_FOR(float, bfloat16, f32_bf16)
EXPORT_FOR(double, double, f64_f64)

EXPORT_STEPS_FOR(float, float, float, f32_f32_f32)
EXPORT_STEPS_FOR(float, float, bfloat16, f32_f32_bf16)
EXPORT_STEPS_FOR(float, bfloat16, bfloat16, f32_bf16_bf16)
EXPORT_STEPS_FOR(double, double, double, f64_f64_f64)
