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

// Bits of all numbers of a vector.
typedef uint32_t Bits __attribute__((vector_size(sizeof(Vectorized<float>))));
typedef uint16_t ShortBits __attribute__((vector_size(sizeof(Vectorized<float>) / 2)));

// `count` of them; a copy whose size is known makes one instruction.
inline void copy_short_bits(const void* from, void* to, int64_t count) {
  if (count == Vectorized<float>::size()) std::memcpy(to, from, sizeof(ShortBits));
  else std::memcpy(to, from, count * sizeof(bfloat16));
}

// The first `count` numbers of a vector; behind them it has zeros.
template <typename S>
Vectorized<S> load(const S* from, int64_t count) { return Vectorized<S>::loadu(from, count); }

inline Vectorized<float> load(const bfloat16* from, int64_t count) {
#ifdef CPU_CAPABILITY_AVX512
  const __mmask16 mask = (1u << count) - 1;
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
#else
  ShortBits short_bits{};
  copy_short_bits(from, &short_bits, count);
  const Bits bits = __builtin_convertvector(short_bits, Bits) << 16;
  return Vectorized<float>::loadu(&bits);
#endif
}

template <typename S>
void store(const Vectorized<S>& numbers, S* to, int64_t count) { numbers.store(to, count); }

inline void store(const Vectorized<float>& numbers, bfloat16* to, int64_t count) {
#if defined(CPU_CAPABILITY_AVX512) && defined(__AVX512BF16__)
  _mm256_mask_storeu_epi16(to, (1u << count) - 1, (__m256i)_mm512_cvtneps_pbh(numbers));
#else
  Bits bits;
  std::memcpy(&bits, &numbers, sizeof(bits));
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  const ShortBits short_bits = __builtin_convertvector((bits << 1) > 0xff000000 ? Bits{} + 0x7fc0 : rounded, ShortBits);
  copy_short_bits(&short_bits, to, count);
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
