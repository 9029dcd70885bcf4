// Activations and their slopes, of vectors and rows of numbers, and what else a nonlinearity layer needs anywhere:
// `study/activations.py` and `study/normalizations.py` for compiled loops.
//
// To add an activation, add a struct with its value and slope, and a line to ROWS_OF. Constants are those of the Python
// modules, which `study/native_library.py` passes as macros.

#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "native_numbers.h"

namespace {

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
V times_slope(const V& z, const V& value, const V& g) {
  if constexpr (std::is_same_v<Phi, Relu>)
    return select(g, V(0), z <= V(0));  // no product: where a unit is off, an infinite g is stopped, too
  else
    return Phi::slope(z, value) * g;
}

// ---- activations: rows, of states S and what is multiplied P

template <typename S, typename P>
struct Rows {
  // z = (from − mean) · factor, where n is given n = z, and a = scale · φ(z)
  void (*forward)(const S* from, S mean, S factor, S* n, S scale, P* a, int64_t length);
  // g = φ'(n) · scale · g_a, a = scale · φ(n), and over the row Σ g · n and Σ g
  void (*backward)(const S* n, S scale, const P* g_a, S* g, P* a, S* dot, S* sum, int64_t length);
};

template <typename S, typename P, typename Phi>
void go_forward(const S* from, S mean, S factor, S* n, S scale, P* a, int64_t length) {
  const Vectorized<S> means(mean), factors(factor), scales(scale);
  for_vectors<S>(length, [&](int64_t i, int64_t count) {
    const auto z = (load(from + i, count) - means) * factors;
    if (n) store(z, n + i, count);
    store(scales * Phi::value(z), a + i, count);
  });
}

template <typename S, typename P, typename Phi>
void go_backward(const S* n, S scale, const P* g_a, S* g, P* a, S* dot, S* sum, int64_t length) {
  const Vectorized<S> scales(scale);
  Vectorized<S> dots(0), sums(0);
  for_vectors<S>(length, [&](int64_t i, int64_t count) {
    const auto z = load(n + i, count), value = Phi::value(z);
    const auto through = times_slope<Phi>(z, value, scales * load(g_a + i, count));
    store(through, g + i, count);
    store(scales * value, a + i, count);
    dots = at::vec::fmadd(through, z, dots);
    sums = sums + through;
  });
  *dot = sum_of(dots);
  *sum = sum_of(sums);
}

template <typename S, typename P>
struct NamedRows {
  const char* name;
  Rows<S, P> rows;
};

template <typename S, typename P, typename Phi>
constexpr Rows<S, P> make_rows() { return {go_forward<S, P, Phi>, go_backward<S, P, Phi>}; }

template <typename S, typename P>
const NamedRows<S, P> ROWS_OF[] = {
    {"relu", make_rows<S, P, Relu>()},       {"leaky_relu", make_rows<S, P, LeakyRelu>()},
    {"tanh", make_rows<S, P, Tanh>()},       {"sigmoid", make_rows<S, P, Sigmoid>()},
    {"selu", make_rows<S, P, Selu>()},       {"elu", make_rows<S, P, Elu>()},
    {"gelu", make_rows<S, P, Gelu>()},       {"silu", make_rows<S, P, Silu>()},
    {"softplus", make_rows<S, P, Softplus>()}, {"identity", make_rows<S, P, Identity>()},
};

// ---- normalizations

enum Axis : int64_t { NO_AXIS = 0, EXAMPLES = 1, UNITS = 2 };

template <typename S>
S inverse_deviation(S variance) { return S(1) / std::sqrt(variance + S(EPSILON)); }

}  // namespace
