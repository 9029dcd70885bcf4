// Products of packed matrices on the CPU, member by member: what `study/member_products.py` asks of torch elsewhere.
//
// Legend: E members; C = A B with C [M, N], A [M, K], B [K, N]; W numbers in a vector.
// A and B may be transposed views; the numbers of a row of C lie side by side.
//
// Every number of C is one chain of fused multiply-adds over k = 0 … K−1, whatever M, N and E are and wherever the
// operands lie: a member has the same bits alone and in any pack.
//
// A tile of R rows and T vectors of C stays in registers while k runs: each step loads T vectors of B and R numbers of
// A, and adds R · T vectors of products. The libraries do the same, but look up their kernel at each call, which costs
// a good third of a product of 128 × 100 by 100 × 100.

#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

using at::vec::Vectorized;

#if defined(CPU_CAPABILITY_AVX512) || defined(__aarch64__)
constexpr int REGISTERS = 32;
constexpr int WIDEST = 4;  // vectors of a tile
#else
constexpr int REGISTERS = 16;
constexpr int WIDEST = 2;
#endif
constexpr int TALLEST = 12;  // rows of a tile
constexpr int64_t LONGEST = 256;  // terms of a sum that are added before the next panel, whose part of B fits a cache

constexpr int rows_of_tile(int vectors) { return std::min(TALLEST, (REGISTERS - 1 - vectors) / vectors); }

template <typename S>
struct Matrix {
  S* numbers;
  int64_t row, column;  // numbers from one row to the next, and from one column
  S* at(int64_t i, int64_t j) const { return numbers + i * row + j * column; }
  Matrix from(int64_t i, int64_t j) const { return {at(i, j), row, column}; }
};

// Rows of some neighbouring vectors of B. Where they end with B's last columns, and these do not fill a vector, the
// last vectors come from a copy that zeros fill up.
template <typename S>
struct Panel {
  const S* whole;
  int64_t row;
  const S* filled_up;
};

// C = A B, or C + A B, of R rows and T vectors; where CUT, the last vector of C has only `cut` numbers.
template <typename S, int R, int T, bool CUT>
void multiply_tile(int64_t terms, Matrix<const S> a, Panel<S> b, S* c, int64_t c_row, int64_t cut, bool add) {
  using V = Vectorized<S>;
  constexpr int W = V::size(), WHOLE = CUT ? T - 1 : T;
  V sum[R][T];
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < T; ++j) {
      S* from = c + i * c_row + j * W;
      sum[i][j] = !add ? V(S(0)) : j < WHOLE ? V::loadu(from) : V::loadu(from, cut);
    }
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < T; ++j) __builtin_prefetch(c + i * c_row + j * W, 1);  // else the last stores wait for memory
  const S* ahead = a.at(R, 0);  // the next tile's numbers, where they lie behind this tile's
  const int64_t ahead_step = a.column == 1 ? 64 / sizeof(S) : 0;
  for (int64_t k = 0; k < terms; ++k) {
    __builtin_prefetch(ahead + k * ahead_step);
    V row[T];
#pragma GCC unroll 4
    for (int j = 0; j < T; ++j) row[j] = V::loadu(j < WHOLE ? b.whole + k * b.row + j * W : b.filled_up + k * W);
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      const V factor(*a.at(i, k));
#pragma GCC unroll 4
      for (int j = 0; j < T; ++j) sum[i][j] = at::vec::fmadd(factor, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < T; ++j)
      if (j < WHOLE)
        sum[i][j].store(c + i * c_row + j * W);
      else
        sum[i][j].store(c + i * c_row + j * W, cut);
}

// The same for any number of rows: tiles of R, then one of those that are left.
template <typename S, int R, int T, bool CUT>
void multiply_panel(int64_t rows, int64_t terms, Matrix<const S> a, Panel<S> b, S* c, int64_t c_row, int64_t cut,
                    bool add) {
  int64_t i = 0;
  for (; i + R <= rows; i += R)
    multiply_tile<S, R, T, CUT>(terms, a.from(i, 0), b, c + i * c_row, c_row, cut, add);
  if constexpr (R > 1)
    if (i < rows) multiply_panel<S, R - 1, T, CUT>(rows - i, terms, a.from(i, 0), b, c + i * c_row, c_row, cut, add);
}

template <typename S, bool CUT, size_t... T>
constexpr auto panels_of(std::index_sequence<T...>) {
  return std::array{multiply_panel<S, rows_of_tile(T + 1), T + 1, CUT>...};
}

// By whether the last vector is cut, and the number of vectors less one.
template <typename S>
constexpr std::array MULTIPLY_PANEL{panels_of<S, false>(std::make_index_sequence<WIDEST>()),
                                    panels_of<S, true>(std::make_index_sequence<WIDEST>())};

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

// W rows → their transpose, of which rows beyond `columns` are not written; missing rows count as zeros.
template <typename S>
void transpose_block(const S* from, int64_t from_row, int64_t rows, int64_t columns, S* to, int64_t to_row) {
  using V = Vectorized<S>;
  constexpr int W = V::size();
  typedef S Numbers __attribute__((vector_size(W * sizeof(S))));
  using Index = std::conditional_t<sizeof(S) == 4, int32_t, int64_t>;
  typedef Index Order __attribute__((vector_size(W * sizeof(S))));
  Order low, high;  // the first and the second half of two rows, in turn one number of each
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + i % 2 * W;
    high[i] = W / 2 + low[i];
  }
  Numbers row[W], next[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    const V loaded = i < rows ? V::loadu(from + i * from_row, columns) : V(S(0));
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
  for (int64_t i = 0; i < columns; ++i) std::memcpy(to + i * to_row, &row[i], sizeof(Numbers));
}

// `terms` rows of B for all panels: itself, or its transpose in `room`; and its last columns filled up, in `room`.
template <typename S>
Panel<S> take_rows(int64_t terms, int64_t N, Matrix<const S> b, S* room) {
  constexpr int64_t W = Vectorized<S>::size();
  const int64_t whole = N / W * W, cut = N % W;
  S* filled_up = room + terms * whole;
  if (b.column == 1) {
    if (cut)
      for (int64_t k = 0; k < terms; ++k) Vectorized<S>::loadu(b.at(k, whole), cut).store(filled_up + k * W);
    return {b.numbers, b.row, filled_up};
  }
  for (int64_t j = 0; j < N; j += W)
    for (int64_t k = 0; k < terms; k += W) {
      const int64_t columns = std::min(W, terms - k);
      if (j < whole)
        transpose_block(b.at(k, j), b.column, W, columns, room + k * whole + j, whole);
      else
        transpose_block(b.at(k, j), b.column, cut, columns, filled_up + k * W, W);
    }
  return {room, whole, filled_up};
}

template <typename S>
void multiply_terms(int64_t M, int64_t N, int64_t terms, Matrix<const S> a, Panel<S> b, Matrix<S> c, bool add) {
  constexpr int64_t W = Vectorized<S>::size();
  const int64_t vectors = (N + W - 1) / W, cut = N % W, panels = (vectors + WIDEST - 1) / WIDEST;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t first = vectors * panel / panels, end = vectors * (panel + 1) / panels;
    MULTIPLY_PANEL<S>[cut && end == vectors][end - first - 1](
        M, terms, a, {b.whole + first * W, b.row, b.filled_up}, c.at(0, first * W), c.row, cut, add);
  }
}

template <typename S>
void multiply_members(int64_t members, int64_t M, int64_t N, int64_t K, const S* a, int64_t a_member, int64_t a_row,
                      int64_t a_column, const S* b, int64_t b_member, int64_t b_row, int64_t b_column, S* c,
                      int64_t c_member, int64_t c_row) {
  static thread_local std::vector<S> room;  // kept: fresh memory costs as much as a product
  room.resize(std::max<size_t>(room.size(), std::min(K, LONGEST) * (N + Vectorized<S>::size())));
  const int64_t sharing = b_member == 0 ? members : 1;  // members that have one B
  for (int64_t first = 0; first < members; first += sharing)
    for (int64_t k = 0; k < K; k += LONGEST) {
      const int64_t terms = std::min(LONGEST, K - k);
      const Matrix<const S> all_of_b{b + first * b_member, b_row, b_column};
      const Panel<S> rows = take_rows(terms, N, all_of_b.from(k, 0), room.data());
      for (int64_t e = first; e < first + sharing; ++e) {
        const Matrix<const S> all_of_a{a + e * a_member, a_row, a_column};
        multiply_terms<S>(M, N, terms, all_of_a.from(0, k), rows, {c + e * c_member, c_row, 1}, k > 0);
      }
    }
}

}  // namespace

#define EXPORT_FOR(S, SUFFIX)                                                                                          \
  extern "C" __attribute__((visibility("default"))) void multiply_##SUFFIX(                                            \
      int64_t E, int64_t M, int64_t N, int64_t K, const S* a, int64_t a_member, int64_t a_row, int64_t a_column,      \
      const S* b, int64_t b_member, int64_t b_row, int64_t b_column, S* c, int64_t c_member, int64_t c_row) {          \
    multiply_members<S>(E, M, N, K, a, a_member, a_row, a_column, b, b_member, b_row, b_column, c, c_member, c_row);   \
  }

EXPORT_FOR(float, f32)
EXPORT_FOR(double, f64)
