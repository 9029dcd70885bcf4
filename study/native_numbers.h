// Numbers of several types, one by one and as vectors: those of states and, shorter, those of products.

#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <cstdint>
#include <cstring>

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

// The first `count` numbers of a vector; behind them it has zeros.
template <typename S>
Vectorized<S> load(const S* from, int64_t count) { return Vectorized<S>::loadu(from, count); }

inline Vectorized<float> load(const bfloat16* from, int64_t count) {
#ifdef CPU_CAPABILITY_AVX512
  const __mmask16 mask = (1u << count) - 1;
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
#else
  float numbers[Vectorized<float>::size()];
  for (int64_t i = 0; i < count; ++i) numbers[i] = widen(from[i]);
  return Vectorized<float>::loadu(numbers, count);
#endif
}

template <typename S>
void store(const Vectorized<S>& numbers, S* to, int64_t count) { numbers.store(to, count); }

inline void store(const Vectorized<float>& numbers, bfloat16* to, int64_t count) {
#if defined(CPU_CAPABILITY_AVX512) && defined(__AVX512BF16__)
  _mm256_mask_storeu_epi16(to, (1u << count) - 1, (__m256i)_mm512_cvtneps_pbh(numbers));
#else
  float wide[Vectorized<float>::size()];
  numbers.store(wide);
  for (int64_t i = 0; i < count; ++i) to[i].bits = shortened_bits(wide[i]);
#endif
}

// Of passes that compilers would call instead, whose numbers would then lie in memory.
#define INLINED __attribute__((always_inline))

// Calls work(i, count) for all numbers of a row, a vector of them at a time: `count` numbers from the i-th on.
template <typename S, typename Work>
INLINED inline void for_vectors(int64_t length, const Work& work) {
  constexpr int64_t W = Vectorized<S>::size();
  int64_t i = 0;
  for (; i + W <= length; i += W) work(i, W);
  if (i < length) work(i, length - i);
}

template <typename S>
S sum_of(const Vectorized<S>& numbers) {
  return at::vec::vec_reduce_all<S>([](const auto& x, const auto& y) { return x + y; }, numbers);
}

template <typename S, typename P>
void shorten(const S* from, P* to, int64_t count) {
  for_vectors<S>(count, [&](int64_t i, int64_t n) { store(load(from + i, n), to + i, n); });
}

}  // namespace
