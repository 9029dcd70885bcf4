// Products of packed matrices on the CPU, member by member: what `study/member_products.py` asks of torch elsewhere.
//
// Legend: E members; C = A B with C [M, N], A [M, K], B [K, N]; W numbers in a vector.
// A and B may be transposed views; the numbers of a row of C lie side by side.
//
// Every number of C is one chain of multiply-adds (fused, with vectors) over k = 0 … K−1, whatever M, N, E are and where
// the operands lie: a member has the same bits alone and in any pack.
//
// A tile of R rows and T vectors of C stays in registers while k runs: each step loads T vectors of B and R words of A,
// and adds R · T vectors of products. The libraries do the same, but look up their kernel at each call, which costs a
// good third of a product of 128 × 100 by 100 × 100.
//
// A word is what a step takes of either operand: one term or, of bfloat16 where the processor multiplies pairs, two,
// which are multiplied and added to an fp32 sum by one instruction; elsewhere a term of bfloat16 is widened to a word.
// Words that do not lie in memory as such are made in a room of their own.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "native_exports.h"
#include "native_numbers.h"

// Units for whole 16-bit matrices, and Arm's, are faster still, and oneDNN's, which torch lacks on Apple's.
#if defined(__AMX_BF16__) || defined(__AMXBF16__) || (defined(__ARM_FEATURE_BF16) && !defined(__APPLE__))
#define LEAVES_BFLOAT16
#elif defined(CPU_CAPABILITY_AVX512) && defined(__AVX512BF16__)
#define MULTIPLIES_PAIRS
#endif

namespace {

template <typename P>
using Word = std::conditional_t<std::is_same_v<P, bfloat16>, float, P>;  // also what sums are added in
template <typename P>
constexpr int64_t NUMBERS = sizeof(Word<P>) / sizeof(P);  // that have the size of a word
#ifdef MULTIPLIES_PAIRS
template <typename P>
constexpr int64_t TERMS = NUMBERS<P>;  // of a word
#else
template <typename P>
constexpr int64_t TERMS = 1;
#endif
template <typename P>
using Words = Vectorized<Word<P>>;

#if defined(CPU_CAPABILITY_AVX512) || defined(__aarch64__)
constexpr int REGISTERS = 32;
constexpr int WIDEST = 4;  // vectors of a tile
#else
constexpr int REGISTERS = 16;
constexpr int WIDEST = 2;
#endif
constexpr int TALLEST = 6;  // rows of a tile
constexpr int64_t LONGEST = 256;  // words that are added before the next panel, whose part of B fits a cache
constexpr int64_t BLOCK = 144;  // rows of A whose words are made at once; every height of a tile divides it

constexpr int rows_of_tile(int vectors) { return std::min(TALLEST, (REGISTERS - 1 - vectors) / vectors); }

template <typename P>
struct Matrix {
  P* numbers;
  int64_t row, column;  // numbers from one row to the next, and from one column (of words: from one word)
  P* at(int64_t i, int64_t j) const { return numbers + i * row + j * column; }
  Matrix from(int64_t i, int64_t j) const { return {at(i, j), row, column}; }
};

// Rows of some neighbouring vectors of B. Where they end with B's last columns, and these do not fill a vector, the
// last vectors come from a copy that zeros fill up.
template <typename P>
struct Panel {
  const Word<P>* whole;
  int64_t row;
  const Word<P>* filled_up;
};

// Neighbouring vectors of B that go through a product together: `first` to `end`, of which `whole` are not cut.
struct Bounds {
  int64_t first, end, whole;
};

// The words of rows of B: as they lie in B, or made panel after panel, so that one stays in a near cache whatever the
// length of B's rows is.
template <typename P>
struct Panels {
  int64_t N, words;
  const Word<P>* numbers;
  const Word<P>* filled_up;
  bool in_place;
  int64_t row;  // numbers from one row to the next, in place
  static constexpr int64_t W = Words<P>::size();
  int64_t vectors() const { return (N + W - 1) / W; }
  int64_t count() const { return (vectors() + WIDEST - 1) / WIDEST; }
  Bounds bounds(int64_t i) const {
    const int64_t first = vectors() * i / count(), end = vectors() * (i + 1) / count();
    return {first, end, std::min(end, N / W) - first};
  }
  Panel<P> panel(const Bounds& at) const {
    if (in_place) return {numbers + at.first * W, row, filled_up};
    return {numbers + at.first * W * words, at.whole * W, filled_up};
  }
};

// Where numbers of C go, and sums that are not ended: into C, too, unless it is of a shorter type.
template <typename P>
struct Target {
  P* c;
  int64_t c_row;
  Word<P>* sums;
  int64_t sums_row;
  bool begun, ends;
  Target from(int64_t i, int64_t j) const {
    return {c + i * c_row + j, c_row, sums + i * sums_row + j, sums_row, begun, ends};
  }
};

// Sums of vectors of words.
template <typename P>
Words<P> add_products(const Words<P>& a, const Words<P>& b, const Words<P>& sum) {
  if constexpr (TERMS<P> == 1) return at::vec::fmadd(a, b, sum);
#ifdef MULTIPLIES_PAIRS
  else return _mm512_dpbf16_ps(sum, (__m512bh)static_cast<__m512>(a), (__m512bh)static_cast<__m512>(b));
#endif
}

#ifdef MULTIPLIES_PAIRS
__mmask32 first_halves(int64_t count) { return count < 32 ? (1u << count) - 1 : ~0u; }
#endif

#ifdef CPU_CAPABILITY_AVX512
// Half a vector of words, for the last columns where they fill no more: some processors add it in half the time.
struct HalfVector {
  __m256 words;
  HalfVector() = default;
  HalfVector(__m256 words) : words(words) {}
  explicit HalfVector(float word) : words(_mm256_set1_ps(word)) {}
  static HalfVector loadu(const float* from) { return _mm256_loadu_ps(from); }
  static HalfVector loadu(const float* from, int64_t count) { return _mm256_maskz_loadu_ps((1u << count) - 1, from); }
  void store(float* to, int64_t count) const { _mm256_mask_storeu_ps(to, (1u << count) - 1, words); }
};

template <typename P>
HalfVector add_products(const HalfVector& a, const HalfVector& b, const HalfVector& sum) {
  if constexpr (TERMS<P> == 1) return _mm256_fmadd_ps(a.words, b.words, sum.words);
#ifdef MULTIPLIES_PAIRS
  else return _mm256_dpbf16_ps(sum.words, (__m256bh)a.words, (__m256bh)b.words);
#endif
}

inline void store(const HalfVector& sums, float* to, int64_t count) { sums.store(to, count); }
inline void store(const HalfVector& sums, bfloat16* to, int64_t count) {
  store(Vectorized<float>(_mm512_castps256_ps512(sums.words)), to, count);
}

template <typename P>
constexpr bool HAS_HALVES = std::is_same_v<Word<P>, float>;
#else
struct HalfVector {};
template <typename P>
constexpr bool HAS_HALVES = false;
#endif

// Returns the words of up to W · TERMS neighbouring numbers; zeros fill them up.
template <typename P>
Words<P> load_words(const P* from, int64_t count) {
  if constexpr (TERMS<P> == 1) return load(from, count);
#ifdef MULTIPLIES_PAIRS
  else return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(first_halves(count), from));
#endif
}

enum LastVector { FULL, CUT, CUT_TO_HALF };  // of a panel

// C = A B, or C + A B, of R rows and T vectors; unless it is FULL, the last vector of C has only `cut` numbers.
template <typename P, int R, int T, LastVector LAST>
void multiply_tile(int64_t words, Matrix<const P> a, Panel<P> b, Target<P> c, int64_t cut) {
  using V = Words<P>;
  using L = std::conditional_t<LAST == CUT_TO_HALF, HalfVector, V>;
  constexpr int W = V::size(), WHOLE = LAST == FULL ? T : T - 1;
  V sum[R][WHOLE ? WHOLE : 1];
  L last[R];
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i) {
    const Word<P>* from = c.sums + i * c.sums_row;
#pragma GCC unroll 4
    for (int j = 0; j < WHOLE; ++j) sum[i][j] = c.begun ? V::loadu(from + j * W) : V(Word<P>(0));
    if constexpr (LAST != FULL) last[i] = c.begun ? L::loadu(from + WHOLE * W, cut) : L(Word<P>(0));
  }
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < T; j += NUMBERS<P>)
      __builtin_prefetch(c.c + i * c.c_row + j * W, 1);  // else the last stores wait for memory
  const P* ahead = a.at(R, 0);  // the next tile's numbers, where they lie behind this tile's
  const int64_t ahead_step = a.column == NUMBERS<P> ? 64 / sizeof(P) : 0;
  for (int64_t k = 0; k < words; ++k) {
    __builtin_prefetch(ahead + k * ahead_step);
    V row[WHOLE ? WHOLE : 1];
    L row_end;
#pragma GCC unroll 4
    for (int j = 0; j < WHOLE; ++j) row[j] = V::loadu(b.whole + k * b.row + j * W);
    if constexpr (LAST != FULL) row_end = L::loadu(b.filled_up + k * W);
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      Word<P> word;
      std::memcpy(&word, a.at(i, k), sizeof(word));
#pragma GCC unroll 4
      for (int j = 0; j < WHOLE; ++j) sum[i][j] = add_products<P>(V(word), row[j], sum[i][j]);
      if constexpr (LAST != FULL) last[i] = add_products<P>(L(word), row_end, last[i]);
    }
  }
  const bool into_c = NUMBERS<P> == 1 || c.ends;
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i) {
    P* to = c.c + i * c.c_row;
    Word<P>* kept = c.sums + i * c.sums_row;
#pragma GCC unroll 4
    for (int j = 0; j < WHOLE; ++j) into_c ? store(sum[i][j], to + j * W, W) : sum[i][j].store(kept + j * W);
    if constexpr (LAST != FULL) into_c ? store(last[i], to + WHOLE * W, cut) : last[i].store(kept + WHOLE * W, cut);
  }
}

// The same for any number of rows: tiles of R, then one of those that are left.
template <typename P, int R, int T, LastVector LAST>
void multiply_panel(int64_t rows, int64_t words, Matrix<const P> a, Panel<P> b, Target<P> c, int64_t cut) {
  int64_t i = 0;
  for (; i + R <= rows; i += R) multiply_tile<P, R, T, LAST>(words, a.from(i, 0), b, c.from(i, 0), cut);
  if constexpr (R > 1)
    if (i < rows) multiply_panel<P, R - 1, T, LAST>(rows - i, words, a.from(i, 0), b, c.from(i, 0), cut);
}

template <typename P, LastVector LAST, size_t... T>
constexpr auto panels_of(std::index_sequence<T...>) {
  return std::array{multiply_panel<P, rows_of_tile(T + 1), T + 1, LAST>...};
}

// By the last vector, and the number of vectors less one.
template <typename P>
constexpr std::array MULTIPLY_PANEL{
    panels_of<P, FULL>(std::make_index_sequence<WIDEST>()), panels_of<P, CUT>(std::make_index_sequence<WIDEST>()),
    panels_of<P, HAS_HALVES<P> ? CUT_TO_HALF : CUT>(std::make_index_sequence<WIDEST>())};

// The numbers of two vectors, as numbered by `order` from the first number of the first on.
template <int W, typename Numbers, typename Order>
Numbers shuffle(const Numbers& first, const Numbers& second, const Order& order) {
#ifdef __clang__
  Numbers result;
  for (int i = 0; i < W; ++i) result[i] = order[i] < W ? first[order[i]] : second[order[i] - W];
  return result;
#else
  return __builtin_shuffle(first, second, order);
#endif
}

// W rows of words → their transpose; of each `count` numbers are read, and missing rows count as zeros.
template <typename P>
void transpose_block(const P* from, int64_t from_row, int64_t rows, int64_t count, Word<P>* to, int64_t to_row) {
  using V = Words<P>;
  constexpr int W = V::size();
  typedef Word<P> Numbers __attribute__((vector_size(sizeof(V))));
  using Index = std::conditional_t<sizeof(Word<P>) == 4, int32_t, int64_t>;
  typedef Index Order __attribute__((vector_size(sizeof(V))));
  Order low, high;  // the first and the second half of two rows, in turn one number of each
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + i % 2 * W;
    high[i] = W / 2 + low[i];
  }
  Numbers row[W], next[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    const V loaded = i < rows ? load_words<P>(from + i * from_row, count) : V(Word<P>(0));
    std::memcpy(&row[i], &loaded, sizeof(Numbers));
  }
#pragma GCC unroll 4
  for (int step = 1; step < W; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < W / 2; ++i) {
      next[2 * i] = shuffle<W>(row[i], row[i + W / 2], low);
      next[2 * i + 1] = shuffle<W>(row[i], row[i + W / 2], high);
    }
    std::memcpy(row, next, sizeof(row));
  }
  for (int64_t i = 0; i * TERMS<P> < count; ++i) std::memcpy(to + i * to_row, &row[i], sizeof(Numbers));
}

#ifdef MULTIPLIES_PAIRS
constexpr auto ORDER_OF_PAIRS = [] {
  std::array<int16_t, 64> order{};  // of the numbers of two vectors: one of each in turn
  for (int i = 0; i < 64; ++i) order[i] = i / 2 + i % 2 * 32;
  return order;
}();

// Two rows → the words that each column makes, up to a whole number of vectors; a row that is missing is of zeros.
void pair_rows(const bfloat16* first, const bfloat16* second, int64_t count, float* words) {
  const __m512i low = _mm512_loadu_si512(&ORDER_OF_PAIRS[0]), high = _mm512_loadu_si512(&ORDER_OF_PAIRS[32]);
  for (int64_t i = 0; i < count; i += 32) {
    const __mmask32 mask = first_halves(count - i);
    const __m512i a = _mm512_maskz_loadu_epi16(mask, first + i);
    const __m512i b = _mm512_maskz_loadu_epi16(second ? mask : 0, second + i);
    _mm512_storeu_si512(words + i, _mm512_permutex2var_epi16(a, low, b));
    if (count - i > 16) _mm512_storeu_si512(words + i + 16, _mm512_permutex2var_epi16(a, high, b));
  }
}
#endif

// Numbers that lie `step` apart → words side by side.
template <typename P>
void widen_all(const P* from, int64_t step, int64_t count, Word<P>* to) {
  if (step == 1)
    for_vectors<Word<P>>(count, [&](int64_t i, int64_t n) INLINED { store(load(from + i, n), to + i, n); });
  else
    for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i * step]);
}

// Returns the words of rows of A: as they lie in A or, made of rows of its transpose, in `room`, where they are closer.
template <typename P>
Matrix<const P> take_block(int64_t rows, int64_t terms, Matrix<const P> a, Word<P>* room) {
  if constexpr (NUMBERS<P> == 1) {
    if (a.row != 1 || a.column == 1) return a;
    for (int64_t k = 0; k < terms; ++k) std::memcpy(room + k * rows, a.at(0, k), rows * sizeof(P));
    return {room, 1, rows};
  } else if constexpr (TERMS<P> == 1) {
    const P* numbers = reinterpret_cast<const P*>(room);
    if (a.row == 1) {
      for (int64_t k = 0; k < terms; ++k) widen_all(a.at(0, k), 1, rows, room + k * rows);
      return {numbers, NUMBERS<P>, NUMBERS<P> * rows};
    }
    for (int64_t i = 0; i < rows; ++i) widen_all(a.at(i, 0), a.column, terms, room + i * terms);
    return {numbers, NUMBERS<P> * terms, NUMBERS<P>};
  }
#ifdef MULTIPLIES_PAIRS
  else {
    if (a.column == 1 && terms % 2 == 0) return {a.numbers, a.row, 2};
    const int64_t stride = (rows + 15) / 16 * 16;
    for (int64_t k = 0; k < terms; k += 2, room += stride) {
      const bfloat16 *first = a.at(0, k), *second = k + 1 < terms ? a.at(0, k + 1) : nullptr;
      if (a.row == 1) {
        pair_rows(first, second, rows, room);
      } else {
        for (int64_t i = 0; i < rows; ++i) {
          const bfloat16 pair[2]{first[i * a.row], second ? second[i * a.row] : bfloat16{0}};
          std::memcpy(room + i, pair, sizeof(pair));
        }
      }
    }
    return {reinterpret_cast<const P*>(room - (terms + 1) / 2 * stride), 2, 2 * stride};
  }
#endif
}

// Columns of `terms` rows of B → their words in rows of `width`, or of a whole vector when they fill none.
template <typename P>
void take_columns(int64_t terms, int64_t columns, Matrix<const P> b, Word<P>* to, int64_t width) {
  constexpr int64_t W = Words<P>::size();
  const int64_t words = (terms + TERMS<P> - 1) / TERMS<P>;
  if (b.column != 1) {
    for (int64_t j = 0; j < columns; j += W)
      for (int64_t k = 0; k < words; k += W) {
        const int64_t count = std::min(W * TERMS<P>, terms - k * TERMS<P>);
        transpose_block<P>(b.at(k * TERMS<P>, j), b.column, std::min(W, columns - j), count, to + k * width + j, width);
      }
  } else if constexpr (TERMS<P> == 1) {
    for (int64_t k = 0; k < terms; ++k)
      for (int64_t j = 0; j < columns; j += W) load(b.at(k, j), std::min(W, columns - j)).store(to + k * width + j);
  }
#ifdef MULTIPLIES_PAIRS
  else {
    for (int64_t k = 0; k < words; ++k)
      pair_rows(b.at(2 * k, 0), 2 * k + 1 < terms ? b.at(2 * k + 1, 0) : nullptr, columns, to + k * width);
  }
#endif
}

// Returns `terms` rows of B for all panels, in place where they can be, else in `room`.
template <typename P>
Panels<P> take_rows(int64_t terms, int64_t N, Matrix<const P> b, Word<P>* room) {
  constexpr int64_t W = Words<P>::size();
  const int64_t words = (terms + TERMS<P> - 1) / TERMS<P>, whole = N / W * W;
  Word<P>* filled_up = room + words * whole;
  if (whole < N) take_columns(terms, N - whole, b.from(0, whole), filled_up, W);
  if constexpr (NUMBERS<P> == 1)
    if (b.column == 1) return {N, words, b.numbers, filled_up, true, b.row};
  const Panels<P> panels{N, words, room, filled_up, false, 0};
  for (int64_t i = 0; i < panels.count(); ++i) {
    const Bounds at = panels.bounds(i);
    take_columns(terms, at.whole * W, b.from(0, at.first * W), room + at.first * W * words, at.whole * W);
  }
  return panels;
}

template <typename P>
void multiply_terms(int64_t M, int64_t terms, Matrix<const P> a, const Panels<P>& b, Target<P> c, Word<P>* room) {
  constexpr int64_t W = Words<P>::size();
  const int64_t cut = b.N % W;
  const LastVector end_of_row = cut == 0 ? FULL : cut > W / 2 ? CUT : CUT_TO_HALF;
  for (int64_t i = 0; i < M; i += BLOCK) {
    const int64_t rows = std::min(BLOCK, M - i);
    const Matrix<const P> block = take_block(rows, terms, a.from(i, 0), room);
    for (int64_t panel = 0; panel < b.count(); ++panel) {
      const Bounds at = b.bounds(panel);
      MULTIPLY_PANEL<P>[at.end == b.vectors() ? end_of_row : FULL][at.end - at.first - 1](
          rows, b.words, block, b.panel(at), c.from(i, at.first * W), cut);
    }
  }
}

// Numbers that every product of a thread may use: fresh memory costs as much as a product.
template <typename S, int PURPOSE>
S* room_for(size_t count) {
  static thread_local std::vector<S> room;
  if (room.size() < count) room.resize(count);
  return room.data();
}

template <typename P>
void multiply_members(int64_t members, int64_t M, int64_t N, int64_t K, const P* a, int64_t a_member, int64_t a_row,
                      int64_t a_column, const P* b, int64_t b_member, int64_t b_row, int64_t b_column, P* c,
                      int64_t c_member, int64_t c_row) {
  using S = Word<P>;
  constexpr bool IS_SHORT = NUMBERS<P> > 1;
  const int64_t sharing = b_member == 0 ? members : 1;  // members that have one B
  const int64_t longest = LONGEST * TERMS<P>, words = std::min(K, longest);
  S* for_rows = room_for<S, 0>(words * (N + Words<P>::size()));
  S* for_block = room_for<S, 1>(words * (BLOCK + Words<P>::size()));
  S* for_sums = IS_SHORT && K > longest ? room_for<S, 2>(sharing * M * N) : nullptr;
  for (int64_t first = 0; first < members; first += sharing)
    for (int64_t k = 0; k < K; k += longest) {
      const int64_t terms = std::min(longest, K - k);
      const Matrix<const P> all_of_b{b + first * b_member, b_row, b_column};
      const Panels<P> rows = take_rows(terms, N, all_of_b.from(k, 0), for_rows);
      for (int64_t e = first; e < first + sharing; ++e) {
        const Matrix<const P> all_of_a{a + e * a_member, a_row, a_column};
        Target<P> target{c + e * c_member, c_row, for_sums + (e - first) * M * N, N, k > 0, k + terms == K};
        if constexpr (!IS_SHORT) target.sums = target.c, target.sums_row = c_row;
        multiply_terms<P>(M, terms, all_of_a.from(0, k), rows, target, for_block);
      }
    }
}

}  // namespace

EXPORT_AS(multiply_f32, multiply_members<float>)
EXPORT_AS(multiply_f64, multiply_members<double>)
#ifndef LEAVES_BFLOAT16
EXPORT_AS(multiply_bf16, multiply_members<bfloat16>)
#endif
