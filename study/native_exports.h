// A function with arguments of any kind → one that takes them as 64-bit words, so that calls can be written down.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

template <typename T>
T argument_in(int64_t word) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<T>(word);
  else if constexpr (std::is_floating_point_v<T>)
    return std::bit_cast<double>(word);
  else
    return word;
}

template <typename... A>
void call_with_words(void (*function)(A...), const int64_t* words) {
  [&]<size_t... I>(std::index_sequence<I...>) { function(argument_in<A>(words[I])...); }(
      std::index_sequence_for<A...>());
}

#define EXPORT extern "C" __attribute__((visibility("default")))
#define EXPORT_AS(name, ...) \
  EXPORT void name(const int64_t* words) { call_with_words(__VA_ARGS__, words); }
